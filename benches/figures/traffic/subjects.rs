//! Who is measured: all of them exist at the same time, on the same hosts.

use std::{net::IpAddr, process::Command};

use anyhow::{Context as _, Result};
use netns_harness::{Host, Lab, StoreKind};
use rs_overlay::dataplane::namespace::Namespace;

use super::iperf::Iperf;
use crate::{
    Context,
    figure::OURS,
    stage::{self, End, OURS_DRIVER, THEIR_DRIVER},
};

/// Two ends of one way.
pub(super) struct Subject<'a> {
    pub(super) name: String,
    /// Whether both are on one host.
    pub(super) local: bool,
    pub(super) from: End<'a>,
    to: End<'a>,
    pub(super) iperf: Iperf,
}

impl<'a> Subject<'a> {
    fn new(name: &str, from: End<'a>, to: End<'a>) -> Result<Self> {
        from.reaches(&to)?;
        let iperf = Iperf::serve(&to)?;
        Ok(Self { name: name.to_owned(), local: from.host.number() == to.host.number(), from, to, iperf })
    }

    pub(super) fn to(&self) -> (&Namespace, IpAddr) {
        (&self.to.namespace, self.to.ip)
    }
}

/// Those of rs-overlay: names, and arguments of the daemon.
fn ours(context: &Context) -> Result<Vec<(&'static str, &'static [&'static str])>> {
    let mut all: Vec<(&'static str, &'static [&'static str])> = vec![(OURS, &[])];
    let help = Command::new(&context.daemon).args(["daemon", "--help"]).output()?;
    if String::from_utf8_lossy(&help.stdout).contains("--fast-path") {
        all.push(("rs-overlay, no fast path", &["--fast-path", "off"]));
    }
    Ok(all)
}

/// One lab for each of ours. The first one has all others as well.
pub(super) fn labs(context: &Context) -> Result<Vec<Lab>> {
    ours(context)?
        .into_iter()
        .map(|(_, args)| stage::lab(context, 2, StoreKind::Consul).classic().daemon_args(args).build())
        .collect()
}

/// All subjects.
pub(super) struct Stage<'a> {
    pub(super) across: Vec<Subject<'a>>,
    pub(super) local: Vec<Subject<'a>>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(context: &Context, labs: &'a [Lab]) -> Result<Self> {
        let (mut across, mut local) = (Vec::new(), Vec::new());
        let mut networks: Vec<_> = Vec::new();
        for ((name, _), lab) in ours(context)?.into_iter().zip(labs) {
            networks.push((name, lab, "ours", &OURS_DRIVER[..]));
        }
        let first = labs.first().context("no lab")?;
        networks.push(("docker overlay", first, "theirs", &THEIR_DRIVER));
        for (name, lab, network, driver) in networks {
            stage::network(lab, network, driver)?;
            let end =
                |host: &'a Host, number: u8| End::container(host, &format!("{network}{number}"), network);
            let (one, two) = (lab.host(1), lab.host(2));
            across.push(Subject::new(name, end(one, 1)?, end(two, 2)?)?);
            local.push(Subject::new(name, end(one, 3)?, end(one, 4)?)?);
        }
        let (one, two) = (first.host(1), first.host(2));
        across.push(Subject::new("bare VXLAN", vxlan(one, two)?, vxlan(two, one)?)?);
        across.push(Subject::new("underlay", End::of_host(one)?, End::of_host(two)?)?);
        one.docker(&["network", "create", "bridged"])?;
        let end = |number: u8| End::container(one, &format!("bridged{number}"), "bridged");
        local.push(Subject::new("docker bridge", end(1)?, end(2)?)?);
        Ok(Self { across, local })
    }
}

/// A VXLAN device that knows one peer, in a namespace of its own, as the containers are: the least that an overlay
/// can cost. Inner packets meet no netfilter there, outer ones that of the host, as with everybody.
fn vxlan<'a>(host: &'a Host, peer: &Host) -> Result<End<'a>> {
    let (own, other) = (host.vtep(), peer.vtep());
    let ip: IpAddr = format!("198.51.100.{}", host.number()).parse()?;
    host.exec(&["ip", "netns", "add", "bare"])?;
    let device = format!(
        "link add bare0 mtu 1450 type vxlan id 4242 dstport 4790 local {own} remote {other} nolearning"
    );
    host.exec(&[&["ip"], &device.split(' ').collect::<Vec<_>>()[..]].concat())?;
    host.exec(&["ip", "link", "set", "bare0", "netns", "bare"])?;
    for line in
        ["link set lo up".to_owned(), format!("addr add {ip}/24 dev bare0"), "link set bare0 up".to_owned()]
    {
        host.exec(&[&["ip", "-n", "bare"], &line.split(' ').collect::<Vec<_>>()[..]].concat())?;
    }
    End::at(host, "/run/netns/bare".to_owned(), ip)
}
