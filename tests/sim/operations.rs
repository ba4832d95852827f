//! What people do on the hosts: `docker network create` and `rm`, `run`, `stop`, `start`, `restart`, `rm`.

use std::net::IpAddr;

use ipnet::IpNet;
use rs_overlay::engine::{ContainerAction, IpamConfig, NetworkSpec};

use super::{
    deck::{self, Owner},
    engine::{Container, Wanted, container_event},
    engine_calls, engine_networks,
    host::{self, DRIVER},
    journal, luck,
};

/// One command of a person.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    CreateNetwork { host: usize, name: String, ours: bool, subnet: Option<IpNet>, families: Families },
    RemoveNetwork { host: usize, name: String },
    Run { host: usize, name: String, networks: Vec<String>, ip: Option<IpAddr>, aliases: Vec<String> },
    Stop { host: usize, name: String },
    Start { host: usize, name: String },
    Restart { host: usize, name: String },
    Remove { host: usize, name: String },
}

/// Which addresses a network's containers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    Four,
    Both,
    Six,
}

/// Something that a person might do now.
pub(crate) fn any() -> Command {
    let host = luck::number(0..host::count());
    let names = ["red", "green", "blue", "grey"];
    let name = || luck::one_of(&names).unwrap().to_owned();
    let container = || {
        let all = host::with(host, |host| host.engine.containers.keys().cloned().collect::<Vec<_>>());
        luck::one_of(&all)
    };
    match luck::number(0..100) {
        0..14 => create_network(host, name()),
        14..20 => Command::RemoveNetwork { host, name: name() },
        20..55 => run(host),
        55..70 => container().map_or_else(|| run(host), |name| Command::Stop { host, name }),
        70..80 => container().map_or_else(|| run(host), |name| Command::Start { host, name }),
        80..88 => container().map_or_else(|| run(host), |name| Command::Restart { host, name }),
        _ => container().map_or_else(|| run(host), |name| Command::Remove { host, name }),
    }
}

/// The creation of a network, of any kind.
pub(crate) fn create_network(host: usize, name: String) -> Command {
    let third = u8::try_from(luck::number(0..4)).unwrap();
    let subnet = match luck::number(0..10) {
        0..6 => None,
        6..9 => Some(IpNet::new([10, 9, third, 0].into(), 24).unwrap()),
        _ => Some(IpNet::new([10, 9, third, 0].into(), 28).unwrap()),
    };
    let families = match luck::number(0..10) {
        0..5 => Families::Four,
        5..8 => Families::Both,
        _ => Families::Six,
    };
    let six = || IpNet::new([0xfd00, 9, third.into(), 0, 0, 0, 0, 0].into(), 64).unwrap();
    let subnet = if families == Families::Six { subnet.map(|_| six()) } else { subnet };
    Command::CreateNetwork { host, name, ours: luck::percent(65), subnet, families }
}

fn run(host: usize) -> Command {
    let known: Vec<_> = host::with(host, |host| {
        host.engine.networks.values().map(|net| (net.info.name.clone(), net.pools[0].cidr)).collect()
    });
    let count = luck::number(0..1000);
    // Names meet: on one host they exclude each other, on two they share.
    let name = format!("c{}", if luck::percent(30) { count % 8 } else { count + 8 });
    let first = luck::one_of(&known);
    let mut networks: Vec<_> = first.iter().map(|(name, _)| name.clone()).collect();
    if luck::percent(25)
        && let Some((second, _)) = luck::one_of(&known).filter(|(second, _)| !networks.contains(second))
    {
        networks.push(second);
    }
    if networks.is_empty() {
        networks.push("red".to_owned());
    }
    let ip = first.filter(|_| luck::percent(10)).and_then(|(_, cidr)| cidr.hosts().nth(luck::number(1..12)));
    let aliases = if luck::percent(30) { vec!["web".to_owned()] } else { Vec::new() };
    Command::Run { host, name, networks, ip, aliases }
}

/// Types the command and does not wait for its end.
pub(crate) fn type_in(command: Command) {
    let host = command.host();
    journal::step(format!("{command:?}"));
    if host::with(host, |host| host.engine.down) {
        return;
    }
    deck::spawn(Owner::Engine(host), async move {
        let ended = carry_out(command.clone()).await;
        journal::note(|| format!("host{host}: {command:?} -> {ended:?}"));
    });
}

/// Types the command and waits for its end.
pub(crate) async fn carry_out(command: Command) -> Result<(), String> {
    match command {
        Command::CreateNetwork { host, name, ours, subnet, families } => {
            let ipam = subnet.map(|subnet| IpamConfig { subnet: Some(subnet), ..IpamConfig::default() });
            let spec = NetworkSpec {
                name,
                driver: DRIVER.to_owned(),
                ipam_driver: if ours { DRIVER.to_owned() } else { String::new() },
                ipam: ipam.into_iter().collect(),
                without_ipv4: families == Families::Six,
                ipv6: families != Families::Four,
                ..NetworkSpec::default()
            };
            engine_networks::create_network(host, spec).await.map(drop).map_err(|error| error.to_string())
        }
        Command::RemoveNetwork { host, name } => {
            engine_networks::remove_network(host, &name).await.map_err(|error| error.to_string())
        }
        Command::Run { host, name, networks, ip, aliases } => {
            let new = host::with(host, |host| {
                if host.engine.containers.contains_key(&name) {
                    return None;
                }
                let networks = networks
                    .into_iter()
                    .enumerate()
                    .map(|(at, network)| Wanted { network, ip: ip.filter(|_| at == 0) });
                let id = luck::docker_id();
                let container = Container {
                    id: id.clone(),
                    networks: networks.collect(),
                    aliases,
                    restarts: luck::percent(50),
                    ..Container::default()
                };
                host.engine.containers.insert(name.clone(), container);
                Some(id)
            });
            let Some(id) = new else { return Err("name is taken".into()) };
            container_event(host, &id, ContainerAction::Create);
            engine_calls::start(host, &name).await
        }
        Command::Stop { host, name } => {
            engine_calls::stop(host, &name).await;
            Ok(())
        }
        Command::Start { host, name } => engine_calls::start(host, &name).await,
        Command::Restart { host, name } => {
            engine_calls::stop(host, &name).await;
            engine_calls::start(host, &name).await
        }
        Command::Remove { host, name } => {
            engine_calls::stop(host, &name).await;
            let gone = host::with(host, |host| {
                let idle = host.engine.containers.get(&name).is_some_and(|c| !c.running && !c.busy);
                idle.then(|| host.engine.containers.remove(&name)).flatten()
            });
            if let Some(gone) = gone {
                container_event(host, &gone.id, ContainerAction::Destroy);
            }
            Ok(())
        }
    }
}

impl Command {
    fn host(&self) -> usize {
        match self {
            Self::CreateNetwork { host, .. }
            | Self::RemoveNetwork { host, .. }
            | Self::Run { host, .. }
            | Self::Stop { host, .. }
            | Self::Start { host, .. }
            | Self::Restart { host, .. }
            | Self::Remove { host, .. } => *host,
        }
    }
}
