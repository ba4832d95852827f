//! Tries out what this kernel can do, where nobody sees it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    sync::{Arc, Mutex},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockType, bind, recv, sendto, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use pnet_packet::{
    ethernet::{EtherTypes, MutableEthernetPacket},
    ip::IpNextHeaderProtocol,
    ipv4::MutableIpv4Packet,
};
use tokio::task::spawn_blocking;

use super::{
    Channel, DataPath, Kernel,
    link_messages::{set_down, set_up},
};
use crate::{
    dataplane::{
        Dataplane as _, DataplaneError,
        fast_path::FastPath,
        names::{bridge_link, container_link},
        namespace::Namespace,
        raw::packet_address,
        sources::SourceRules,
    },
    model::{EndpointId, MacAddr, NetworkId, Vni},
    plan::{Op, Overlay, Port, Sources, Vxlan},
};

/// Any network's MTU.
const MTU: u32 = 1400;
/// How long a frame may take on a busy machine, in milliseconds.
const PATIENCE: i64 = 2000;

impl Kernel {
    /// Makes a segment with a container's link in namespaces of its own, which end with the trial. Takes some
    /// milliseconds.
    pub async fn try_out(vtep: IpAddr, port: u16) -> Result<(), DataplaneError> {
        let kernel = Self::nowhere(None)?;
        kernel.prepare().await?;
        let vxlan = Vxlan { local: vtep, port, mtu: MTU, flood: false };
        let (vni, network) = (vni()?, network()?);
        let link = Port { mac: mac(0)?, mtu: MTU, sources: Sources::Any, fast: false };
        let ops =
            [Op::AddSegment { vni, network, vxlan }, Op::AddPort { vni, endpoint: endpoint(0)?, port: link }];
        kernel.apply(&ops).await.into_iter().collect::<Result<(), _>>()?;
        match kernel.observe().await? {
            Overlay { segments, .. } if segments.contains_key(&vni) => Ok(()),
            _ => Err(refused("what was made is not there")),
        }
    }

    /// Loads the programs of the fast path and has them pass a frame from one container's link to another's, whose
    /// bridge is down; and drop one that says to be from somebody else. Takes some tens of milliseconds.
    pub async fn try_fast_path() -> Result<(), DataplaneError> {
        let loaded = FastPath::load().map_err(|detail| in_vain("loading its programs", &detail))?;
        let kernel = Self::nowhere(Some(loaded))?;
        kernel.prepare().await?;
        let vxlan = Vxlan { local: Ipv4Addr::new(192, 0, 2, 1).into(), port: 4789, mtu: MTU, flood: false };
        let (vni, network) = (vni()?, network()?);
        let mut ops = vec![Op::AddSegment { vni, network, vxlan }, Op::SetPath { vni, fast: true }];
        for n in [0, 1] {
            let port =
                Port { mac: mac(n)?, mtu: MTU, sources: Sources::of(&[address(n).into()]), fast: true };
            ops.push(Op::AddPort { vni, endpoint: endpoint(n)?, port });
        }
        for (op, result) in ops.iter().zip(kernel.apply(&ops).await) {
            result.map_err(|error| in_vain(&op.to_string(), &error))?;
        }
        let mut ends = Vec::new();
        for n in [0, 1] {
            let name = container_link(&endpoint(n)?);
            let link = kernel.host.link(&name).await.map_err(|failure| failure.during("link of a trial"))?;
            let link = link.ok_or_else(|| refused("a link that was made is not there"))?;
            let up = kernel.host.call(set_up(link.index)).await;
            up.map_err(|failure| failure.during("link of a trial"))?;
            ends.push(link.index);
        }
        let bridge =
            kernel.inside.link(&bridge_link(vni)).await.map_err(|failure| failure.during("bridge"))?;
        let bridge = bridge.ok_or_else(|| refused("a bridge that was made is not there"))?;
        let down = kernel.inside.call(set_down(bridge.index)).await;
        down.map_err(|failure| failure.during("bridge of a trial"))?;
        let (namespace, macs) = (kernel.host.namespace().clone(), [mac(0)?, mac(1)?]);
        // Where frames do not pass it waits for them.
        let passed = spawn_blocking(move || pass_frames(&namespace, ends[0], ends[1], macs)).await;
        passed
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| in_vain("passing a frame", &error))?;
        let forged = kernel.forged()?;
        if forged.mac == 1 { Ok(()) } else { Err(in_vain("dropping a forged frame", &"it was not counted")) }
    }

    /// A kernel in two namespaces that nobody else knows.
    fn nowhere(fast: Option<FastPath>) -> Result<Self, DataplaneError> {
        let fresh = || {
            let made = Namespace::run_in_new(Namespace::current).and_then(|made| made);
            made.map(|namespace| Channel::new(Arc::new(namespace))).map_err(refused)
        };
        let inside = fresh()?;
        Ok(Self {
            aside: Arc::new(Channel::new(inside.namespace().clone())),
            inside,
            host: fresh()?,
            adopted: false,
            sources: Mutex::new(SourceRules::imagined()),
            data_path: Mutex::new(DataPath { fast: fast.is_some(), because: "a trial".into() }),
            told: Mutex::default(),
            fast: Mutex::new(fast),
            lock: None,
            listeners: Mutex::default(),
        })
    }
}

/// One honest frame arrives and one with another's MAC does not.
fn pass_frames(namespace: &Namespace, from: u32, to: u32, [mine, its]: [MacAddr; 2]) -> io::Result<()> {
    let (ears, mouth) = namespace.run(|| {
        let open = || socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
        let (ears, mouth) = (open()?, open()?);
        let here = packet_address(to, EtherTypes::Ipv4.0).ok_or(Errno::EINVAL)?;
        bind(ears.as_raw_fd(), &here)?;
        setsockopt(&ears, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE))?;
        Ok::<_, Errno>((ears, mouth))
    })??;
    let there = packet_address(from, EtherTypes::Ipv4.0).ok_or(Errno::EINVAL)?;
    let (honest, forged) = (frame(mine, its), frame(MacAddr::of_bridge(Vni::PROBE), its));
    for frame in [&forged, &honest] {
        sendto(mouth.as_raw_fd(), frame, &there, MsgFlags::MSG_DONTWAIT)?;
    }
    let mut heard = [0; 128];
    loop {
        let length = match recv(ears.as_raw_fd(), &mut heard, MsgFlags::empty()) {
            Err(Errno::EAGAIN) => return Err(io::Error::other("it has not arrived")),
            other => other?,
        };
        match heard.get(..length) {
            Some(frame) if frame == honest.as_slice() => return Ok(()),
            Some(frame) if frame == forged.as_slice() => {
                return Err(io::Error::other("one with another's MAC has arrived"));
            }
            // The kernel says things of its own on a new link.
            _ => {}
        }
    }
}

/// An IPv4 packet without content, of a protocol for experiments (RFC 3692).
fn frame(from: MacAddr, to: MacAddr) -> Vec<u8> {
    let mut frame = vec![0; MutableEthernetPacket::minimum_packet_size() + 46];
    if let Some(mut header) = MutableEthernetPacket::new(&mut frame) {
        header.set_source(from.octets().into());
        header.set_destination(to.octets().into());
        header.set_ethertype(EtherTypes::Ipv4);
    }
    let packet = frame.get_mut(MutableEthernetPacket::minimum_packet_size()..).unwrap_or_default();
    if let Some(mut packet) = MutableIpv4Packet::new(packet) {
        packet.set_version(4);
        packet.set_header_length(5);
        packet.set_total_length(46);
        packet.set_next_level_protocol(IpNextHeaderProtocol::new(253));
        packet.set_source(address(0));
        packet.set_destination(address(1));
    }
    frame
}

fn vni() -> Result<Vni, DataplaneError> {
    Vni::new(4096).map_err(refused)
}

fn network() -> Result<NetworkId, DataplaneError> {
    NetworkId::new("0".repeat(64)).map_err(refused)
}

fn endpoint(n: u8) -> Result<EndpointId, DataplaneError> {
    EndpointId::new(n.to_string().repeat(64)).map_err(refused)
}

/// An address for documentation.
fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, n)
}

fn mac(n: u8) -> Result<MacAddr, DataplaneError> {
    MacAddr::new([2, 0, 0, 0, 0, n]).map_err(refused)
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
fn refused(detail: impl ToString) -> DataplaneError {
    DataplaneError::Refused { what: "trying out the kernel".into(), detail: detail.to_string() }
}

fn in_vain(step: &str, error: &impl ToString) -> DataplaneError {
    let detail = format!("{} (it takes Linux 6.6 and CAP_SYS_ADMIN or CAP_BPF)", error.to_string());
    DataplaneError::Refused { what: format!("no fast path: {step}"), detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_kernel_will_do() {
        if nix::unistd::geteuid().is_root() {
            Kernel::try_out("192.0.2.1".parse().unwrap(), 4789).await.unwrap();
            Kernel::try_out("2001:db8::1".parse().unwrap(), 4789).await.unwrap();
            Kernel::try_fast_path().await.unwrap();
        }
    }
}
