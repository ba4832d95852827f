//! What a cell of the matrix stands for: a network that is created on one engine, used on all, and removed
//! on another one.

use netns_harness::{Host, Lab, wait_until};

use crate::{
    case::{Case, Families, Mode},
    dns::{address, answers},
    kit::{self, SOON, assert_clean, ping, refused, remove, says},
    plugin,
    table::{Cell, Verdict},
};

/// Plays a case and tells each cell as soon as it is known.
pub(crate) fn play(case: &Case, tell: &dyn Fn(Cell)) {
    let lab = bring_up(case);
    let mut done = Vec::new();
    for creator in lab.hosts() {
        let engine = creator.engine_version();
        if done.contains(&engine) {
            continue;
        }
        done.push(engine);
        let release = creator.docker(&["version", "--format", "{{.Server.Version}}"]).unwrap();
        for families in case.families {
            let verdict = if families.known_to(engine) {
                network(case.mode, &lab, creator, *families);
                Verdict::Passed
            } else {
                no_such_networks(case.mode, creator, *families);
                Verdict::NotOffered
            };
            tell(Cell {
                mode: case.mode,
                engine: release.split('+').next().unwrap_or(&release).to_owned(),
                families: *families,
                store: case.store,
                underlay: case.underlay,
                verdict,
            });
        }
    }
    if case.mode == Mode::Swarm {
        // Docker's own network for published ports goes with the swarm.
        lab.hosts().iter().for_each(|host| host.swarm_leave().unwrap());
    }
    assert_clean(&lab);
}

fn bring_up(case: &Case) -> Lab {
    match case.mode {
        Mode::Plain => kit::builder(case.engines, case.store).family(case.underlay).build().unwrap(),
        Mode::Classic => {
            kit::builder(case.engines, case.store).family(case.underlay).classic().build().unwrap()
        }
        Mode::Plugin | Mode::Swarm => {
            let lab = Lab::builder().hosts(case.engines).store(case.store).family(case.underlay);
            let lab = lab.build().unwrap();
            if case.mode == Mode::Swarm {
                lab.swarm(lab.hosts().len()).unwrap();
            }
            plugin::install(&lab);
            lab
        }
    }
}

fn create_line(mode: Mode, families: Families, name: &str) -> Vec<&str> {
    let driver = mode.driver();
    let attachable: &[&str] = if mode == Mode::Swarm { &["--attachable"] } else { &[] };
    let line = ["network", "create", "-d", driver, "--ipam-driver", driver];
    [&line[..], attachable, families.options(), &[name]].concat()
}

/// The engine itself has no such networks: what it says, in its own words.
fn no_such_networks(mode: Mode, host: &Host, families: Families) {
    says(&refused(host, &create_line(mode, families, "nothing")), &["ipv4"]);
}

/// Starts a container. In a swarm a network is there before it is everywhere.
fn start(mode: Mode, lab: &Lab, host: &Host, name: &str, network: &str) {
    if mode != Mode::Swarm {
        return kit::run(host, name, network, &[]);
    }
    let ran = wait_until(&format!("{name} on {network}"), SOON, || {
        host.docker_output(&["rm", "-f", name])?;
        kit::try_run(host, name, network, &[]).map(|_| true)
    });
    ran.unwrap_or_else(|error| panic!("{error:#}\n{}", kit::logs(lab)));
}

/// From the creation to the removal: the creator's container and those of all others reach each other by
/// name and by every address, also after one of them was restarted.
fn network(mode: Mode, lab: &Lab, creator: &Host, families: Families) {
    let name = format!("net{}", creator.number());
    let users: Vec<&Host> =
        lab.hosts().iter().filter(|host| families.known_to(host.engine_version())).collect();
    creator
        .docker(&create_line(mode, families, &name))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", creator.daemon_log()));
    for host in &users {
        wait_until(&format!("network {name} on {}", host.name()), SOON, || kit::has_network(host, &name))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", kit::logs(lab)));
    }
    for host in &users {
        start(mode, lab, host, &container(host), &name);
    }
    let others: Vec<&Host> = users.iter().copied().filter(|host| host.number() != creator.number()).collect();
    for other in &others {
        reach_each_other((creator, &container(creator)), (other, &container(other)), &name, families);
    }
    let last = others.last().copied().unwrap_or(creator);
    last.docker(&["restart", "-t", "0", &container(last)]).unwrap();
    reach_each_other((creator, &container(creator)), (last, &container(last)), &name, families);
    for host in &users {
        remove(host, &[&*container(host)]);
    }
    last.docker(&["network", "rm", &name]).unwrap();
    kit::vanishes(lab, &name);
}

fn container(host: &Host) -> String {
    format!("c{}", host.number())
}

type Place<'a> = (&'a Host, &'a str);

fn reach_each_other(one: Place<'_>, two: Place<'_>, network: &str, families: Families) {
    for ((host, container), (far, name)) in [(one, two), (two, one)] {
        let mut addresses = Vec::new();
        if families != Families::Six {
            addresses.push(far.address(name, network).unwrap());
        }
        if families != Families::Four {
            addresses.push(far.address6(name, network).unwrap());
        }
        for ip in addresses {
            let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
            answers(host, container, &[kind, name], &[address(ip)]);
            answers(host, container, &["-x", &ip.to_string()], &[format!("PTR {name}.{network}.")]);
            ping(host, container, ip);
        }
    }
}
