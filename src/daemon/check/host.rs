//! Addresses, routes, ports, the engine and the kernel.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use tokio::time::timeout;

use super::{DEADLINE, Finding};
use crate::{
    config::{AddrPool, DaemonConfig},
    daemon::underlay::first_address,
    dataplane::{host::Host, interception::Interception, netlink::Kernel},
    engine::{Deadlines, DockerEngine, EngineApi as _},
    model::{FastPathMode, HostRoute},
};

/// The address at which other hosts reach this one, and what was found out about it.
pub(super) async fn advertise(config: &DaemonConfig) -> (Finding, Option<IpAddr>) {
    const SUBJECT: &str = "cluster-advertise";
    let looked = async {
        let host = Host::open(None)?;
        let vtep = first_address(config.cluster_advertise.as_ref(), &host).await?;
        anyhow::Ok((vtep, host.link_mtu_of(vtep).await?))
    };
    match looked.await {
        Ok((vtep, mtu)) => {
            let mtu = mtu.map(|mtu| format!(", on an interface with MTU {mtu}")).unwrap_or_default();
            (Finding::ok(SUBJECT, format!("other hosts reach this one at {vtep}{mtu}")), Some(vtep))
        }
        Err(error) => (Finding::problem(SUBJECT, format!("{error:#}")), None),
    }
}

/// Who else uses the tunnels' UDP port.
pub(super) async fn port(port: u16) -> Vec<Finding> {
    const SUBJECT: &str = "vxlan-port";
    let host = match Host::open(None) {
        Ok(host) => host,
        Err(error) => return vec![Finding::problem(SUBJECT, error.to_string())],
    };
    let mut findings = Vec::new();
    if let Some(holder) = host.port_holder(port) {
        let told = format!(
            "{holder} has UDP port {port}; stop it, or choose another --vxlan-port, the same on all hosts"
        );
        findings.push(Finding::problem(SUBJECT, told));
    }
    let mut devices = host.foreign_vxlans().await.unwrap_or_default();
    devices.extend(Host::moved_vxlans().await);
    for device in devices.into_iter().filter(|device| device.port == port && device.vni == 0) {
        let told = format!(
            "device {} takes all VNIs on UDP port {port}; delete it, or choose another --vxlan-port, the same on all hosts",
            device.dev
        );
        findings.push(Finding::problem(SUBJECT, told));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, format!("no other program has UDP port {port}")));
    }
    findings
}

/// Whether the ranges for subnets are free of the host's own routes.
pub(super) async fn pools(pools: &[AddrPool]) -> Option<Finding> {
    const SUBJECT: &str = "default-addr-pool";
    let routes = match Host::open(None) {
        Ok(host) => host.host_routes().await,
        Err(error) => Err(error),
    };
    match routes {
        Ok(routes) => covered(pools, &routes).map(|told| Finding::warning(SUBJECT, told)),
        Err(error) => Some(Finding::problem(SUBJECT, error.to_string())),
    }
}

/// What to say where routes leave nothing of any pool.
fn covered(pools: &[AddrPool], routes: &[HostRoute]) -> Option<String> {
    let cover = |base: &IpNet| routes.iter().find(|route| route.cidr.contains(base));
    let covers: Option<Vec<_>> = pools.iter().map(|pool| Some((pool.base, cover(&pool.base)?))).collect();
    let (base, route) = covers?.into_iter().next()?;
    Some(format!(
        "{base} lies in {} behind {}: networks without --subnet would find no free one; give a --default-addr-pool that no route covers",
        route.cidr, route.dev
    ))
}

/// The engine.
pub(super) async fn engine(socket: &Path) -> Finding {
    const SUBJECT: &str = "docker-host";
    if !socket.exists() {
        let told = format!(
            "there is no engine at {}; start it after the daemon, or give its --docker-host",
            socket.display()
        );
        return Finding::warning(SUBJECT, told);
    }
    let engine = DockerEngine::new(socket, Deadlines::default());
    match timeout(DEADLINE, engine.version()).await {
        Ok(Ok(info)) => Finding::ok(SUBJECT, format!("engine {} answers", info.version)),
        Ok(Err(error)) => Finding::warning(SUBJECT, error.to_string()),
        Err(_) => Finding::warning(
            SUBJECT,
            format!("the engine at {} does not answer within {} s", socket.display(), DEADLINE.as_secs()),
        ),
    }
}

/// What the kernel can do, tried out in namespaces that end with the trial.
pub(super) async fn kernel(vtep: IpAddr, port: u16, fast_path: FastPathMode) -> Vec<Finding> {
    const SUBJECT: &str = "kernel";
    if !nix::unistd::geteuid().is_root() {
        let told = "only root can try out what the kernel does; run this as root to know";
        return vec![Finding::warning(SUBJECT, told)];
    }
    let mut findings = Vec::new();
    findings.push(match Kernel::try_out(vtep, port).await {
        Ok(()) => Finding::ok(SUBJECT, "makes bridges, VXLAN devices and veth pairs as they are needed"),
        Err(error) => Finding::problem(
            SUBJECT,
            format!(
                "{error}; it takes CAP_NET_ADMIN, CAP_SYS_ADMIN, and a kernel with bridge, vxlan and veth"
            ),
        ),
    });
    if fast_path != FastPathMode::Off {
        findings.push(match (Kernel::try_fast_path().await, fast_path) {
            (Ok(()), _) => Finding::ok(SUBJECT, "takes the programs of the fast path, and they pass frames"),
            (Err(error), FastPathMode::On) => {
                Finding::problem(SUBJECT, format!("{error}; set --fast-path auto"))
            }
            (Err(error), _) => Finding::warning(SUBJECT, format!("{error}: packets go by the bridges")),
        });
    }
    let names = tokio::task::spawn_blocking(Interception::try_out).await;
    findings.push(match names {
        Ok(Ok(())) => Finding::ok(SUBJECT, "takes packet filter rules that end with the daemon, for names"),
        Ok(Err(error)) => Finding::warning(SUBJECT, error.to_string()),
        Err(error) => Finding::warning(SUBJECT, error.to_string()),
    });
    if !Path::new("/proc/net/if_inet6").exists() {
        let told =
            "has no IPv6, in which hosts ask for each other: other hosts would never take this one for dead";
        findings.push(Finding::warning(SUBJECT, told));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_told_only_when_nothing_of_them_is_free() {
        let pool = |text: &str| text.parse::<AddrPool>().unwrap();
        let route = |cidr: &str| HostRoute { cidr: cidr.parse().unwrap(), dev: "tun0".to_owned() };
        let ten = pool("base=10.0.0.0/8,size=24");
        assert_eq!(covered(&[ten], &[route("10.1.0.0/16")]), None);
        assert_eq!(covered(&[ten, pool("base=172.30.0.0/16,size=24")], &[route("10.0.0.0/8")]), None);
        let told = covered(&[ten], &[route("192.0.2.0/24"), route("10.0.0.0/8")]).unwrap();
        assert!(told.contains("10.0.0.0/8 lies in 10.0.0.0/8 behind tun0"), "{told}");
    }
}
