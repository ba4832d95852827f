//! Hosts whose underlay address changes, also behind the back of a daemon that is down.

use std::{net::IpAddr, time::Instant};

use anyhow::{Result, ensure};
use netns_harness::{Host, Lab, Signal, wait_until};

use crate::{
    cli,
    kit::{SOON, create, logs, ping, pings, remove, run, says, vanishes},
};

/// Gives a host another address, as a DHCP client does.
fn renumber(host: &Host, last: u8) {
    let script = format!(
        "ip addr flush dev eth1 && sleep 0.2 && ip addr add 192.0.2.{last}/24 dev eth1 && ip route add default via 192.0.2.254"
    );
    host.exec(&["sh", "-c", &script]).unwrap();
}

/// Waits until the containers reach each other, both ways, and every host lists this address for host `number`.
fn followed(lab: &Lab, since: Instant, moved: &[(usize, u8)]) {
    let (one, two) = (lab.host(1), lab.host(2));
    let ends = [
        (one, "v1", two.address("v2", "moving").unwrap()),
        (two, "v2", one.address("v1", "moving").unwrap()),
    ];
    for (host, name, ip) in ends {
        let answered = wait_until(&format!("an answer of {ip} to {name}"), SOON, || pings(host, name, ip));
        answered.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    }
    eprintln!("containers talk again {:.1?} after the change", since.elapsed());
    for host in lab.hosts() {
        let listed = wait_until("the new address in node ls", SOON, || -> Result<bool> {
            let said = cli(host, &["node", "ls"])?;
            for (number, last) in moved {
                let line =
                    said.lines().find(|line| line.contains(&format!("host{number} "))).unwrap_or_default();
                let vtep: IpAddr = [192, 0, 2, *last].into();
                ensure!(line.split_whitespace().any(|word| word == vtep.to_string()), "{said}");
                ensure!(line.contains("alive"), "{said}");
            }
            Ok(true)
        });
        listed.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    }
}

fn begin(lab: &Lab) {
    create(lab, 1, "moving", &["--subnet", "10.74.0.0/24"]);
    run(lab.host(1), "v1", "moving", &[]);
    run(lab.host(2), "v2", "moving", &[]);
    ping(lab.host(1), "v1", lab.host(2).address("v2", "moving").unwrap());
}

fn end(lab: &Lab) {
    remove(lab.host(1), &["v1"]);
    remove(lab.host(2), &["v2"]);
    lab.host(1).docker(&["network", "rm", "moving"]).unwrap();
    vanishes(lab, "moving");
}

/// Nothing was declared dead and nothing is out of place.
fn in_order(lab: &Lab) {
    for host in lab.hosts() {
        let verified = wait_until("no difference", SOON, || {
            cli(host, &["verify"]).map(|said| said.contains("no difference"))
        });
        verified.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
        let log = host.daemon_log();
        assert!(!log.contains("a host is dead") && !log.contains("was declared dead"), "{log}");
    }
}

pub(crate) fn follow(lab: &Lab) {
    begin(lab);
    let one = lab.host(1);
    let since = Instant::now();
    renumber(one, 101);
    followed(lab, since, &[(1, 101)]);
    says(&cli(one, &["status"]).unwrap(), &["192.0.2.101", "192.0.2.1 with", "until"]);
    says(&one.daemon_log(), &["the underlay address of this host has changed"]);

    // While nobody looks.
    one.daemon_kill(Signal::SIGKILL).unwrap();
    renumber(one, 102);
    let since = Instant::now();
    one.daemon_start().unwrap();
    followed(lab, since, &[(1, 102)]);
    renumber(one, 1);
    followed(lab, Instant::now(), &[(1, 1)]);
    in_order(lab);
    end(lab);
}

/// Two hosts exchange their addresses, and then do so again.
pub(crate) fn swap(lab: &Lab) {
    begin(lab);
    let (one, two) = (lab.host(1), lab.host(2));
    for (first, second) in [(2, 1), (1, 2)] {
        let since = Instant::now();
        for host in [one, two] {
            host.exec(&["ip", "addr", "flush", "dev", "eth1"]).unwrap();
        }
        renumber(one, first);
        renumber(two, second);
        followed(lab, since, &[(1, first), (2, second)]);
    }
    in_order(lab);
    end(lab);
}

/// An address that was given by hand does not change by itself: its loss is told, and nothing is torn down.
pub(crate) fn fixed(lab: &Lab) {
    begin(lab);
    let (one, two) = (lab.host(1), lab.host(2));
    two.daemon_kill(Signal::SIGTERM).unwrap();
    two.daemon_start_with(&["--cluster-advertise", "192.0.2.2"]).unwrap();
    two.exec(&["ip", "addr", "add", "192.0.2.202/24", "dev", "eth1"]).unwrap();
    two.exec(&["ip", "addr", "flush", "dev", "eth1", "to", "192.0.2.2/32"]).unwrap();
    let kept =
        ["sh", "-c", "ip -o addr show dev eth1 | grep -q 192.0.2.202 || ip addr add 192.0.2.202/24 dev eth1"];
    two.exec(&kept).unwrap();
    let begun = Instant::now();
    let told = wait_until("the loss in status", SOON, || -> Result<bool> {
        let said = cli(two, &["status"])?;
        ensure!(said.contains("no longer has its underlay address 192.0.2.2"), "{said}");
        Ok(true)
    });
    told.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    says(&two.daemon_log(), &["no longer has its underlay address 192.0.2.2"]);
    let links =
        two.exec(&["nsenter", "--net=/run/docker/rs-overlay/netns/overlay", "ip", "-d", "link"]).unwrap();
    says(&links, &["local 192.0.2.2 "]);
    renumber(two, 2);
    followed(lab, Instant::now(), &[(2, 2)]);
    let clear = wait_until("the end of the complaint", SOON, || {
        cli(two, &["status"]).map(|said| !said.contains("no longer has"))
    });
    clear.unwrap();
    ping(one, "v1", two.address("v2", "moving").unwrap());
    eprintln!("all clear after {:.1?}", begun.elapsed());
    two.daemon_restart(Signal::SIGTERM).unwrap();
    eprintln!("restarted after {:.1?}", begun.elapsed());
    followed(lab, Instant::now(), &[(2, 2)]);
    in_order(lab);
    eprintln!("in order after {:.1?}", begun.elapsed());
    end(lab);
}
