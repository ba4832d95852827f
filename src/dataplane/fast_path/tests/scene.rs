//! A bridge with containers and a tunnel, and the other host.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, recv, sendto, socket},
};

use crate::{
    dataplane::{
        fast_path::{FastPath, PortEntry, Side, Target},
        namespace::Namespace,
        raw::packet_address,
    },
    model::{MacAddr, Vni},
    plan::Sources,
};

/// All kinds of frames (`ETH_P_ALL` of `linux/if_ether.h`).
const ALL: u16 = 3;
/// Container that lives on the other host, its network namespace's only link being a tunnel.
pub(super) const FAR: u8 = 100;

/// Our namespace with bridge `br0`, tunnel `vx`, and ports `p1` and so on.
pub(super) struct Scene {
    pub(super) inside: Namespace,
    host: Namespace,
    pub(super) far: Container,
    pub(super) containers: Vec<Container>,
}

/// A container: number `n` has 10.9.0.n and `fd00::n` on `eth0`, and the MAC that follows.
pub(super) struct Container {
    pub(super) namespace: Namespace,
    pub(super) number: u8,
    /// Index of its port, inside of our namespace.
    pub(super) port: u32,
    tunnel: u32,
    mtu: u32,
    link: u32,
    socket: OwnedFd,
}

pub(super) fn mac(number: u8) -> MacAddr {
    MacAddr::from_ip(ip4(number))
}

pub(super) fn ip4(number: u8) -> IpAddr {
    [10, 9, 0, number].into()
}

pub(super) fn ip6(number: u8) -> IpAddr {
    format!("fd00::{number}").parse().unwrap()
}

pub(super) fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

/// Output of a shell command that must succeed, run inside of `namespace`.
pub(super) fn sh(namespace: &Namespace, script: &str) -> String {
    let run = || Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output();
    let output = namespace.run(run).unwrap().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where other processes find it.
fn path(namespace: &Namespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.raw())
}

fn fresh() -> Namespace {
    let namespace = Namespace::run_in_new(Namespace::current).unwrap().unwrap();
    sh(&namespace, "ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad");
    namespace
}

pub(super) fn index(namespace: &Namespace, link: &str) -> u32 {
    namespace.run(|| nix::net::if_::if_nametoindex(link)).unwrap().unwrap()
}

impl Scene {
    /// With containers 1 to `count`. Everybody knows everybody's MAC, so that a bridge that is down is no
    /// hindrance for who goes past it.
    pub(super) fn new(count: u8, mtu: u32) -> Self {
        let (inside, host, other) = (fresh(), fresh(), fresh());
        // A host's packet filters for bridges, where they are loaded, want sound packets only.
        sh(
            &inside,
            "for file in /proc/sys/net/bridge/bridge-nf-call-*; do ! test -e $file || echo 0 >$file; done",
        );
        sh(&inside, "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up");
        sh(&host, &format!("ip link add wire mtu 9000 type veth peer name wire netns {}", path(&other)));
        for (namespace, number) in [(&host, 1), (&other, 2)] {
            sh(
                namespace,
                &format!("ip addr add 192.0.2.{number}/24 dev wire && ip link set wire mtu 9000 up"),
            );
        }
        let tunnel = "type vxlan id 4096 dstport 4789 noudp6zerocsumrx nolearning local";
        sh(
            &host,
            &format!("ip link add vx mtu {mtu} {tunnel} 192.0.2.1 && ip link set vx netns {}", path(&inside)),
        );
        sh(
            &inside,
            "ip link set vx master br0 up && bridge fdb append 00:00:00:00:00:00 dev vx dst 192.0.2.2",
        );
        sh(
            &other,
            &format!(
                "ip link add eth0 mtu {mtu} address {} {tunnel} 192.0.2.2 &&
                 bridge fdb append 00:00:00:00:00:00 dev eth0 dst 192.0.2.1",
                mac(FAR)
            ),
        );
        let far = Container::begin(other, FAR, 0, (0, mtu));
        let containers = (1..=count).map(|number| {
            let namespace = fresh();
            let end = format!("name eth0 address {} mtu {mtu} netns {}", mac(number), path(&namespace));
            sh(&inside, &format!("ip link add p{number} mtu {mtu} type veth peer {end}"));
            sh(&inside, &format!("ip link set p{number} master br0 up"));
            Container::begin(
                namespace,
                number,
                index(&inside, &format!("p{number}")),
                (index(&inside, "vx"), mtu),
            )
        });
        let scene = Self { containers: containers.collect(), inside, host, far };
        for one in scene.all() {
            for two in scene.all().filter(|two| two.number != one.number) {
                one.knows(two.number);
            }
        }
        scene.forwards();
        scene
    }

    fn all(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().chain([&self.far])
    }

    /// The tunnel's index.
    pub(super) fn tunnel(&self) -> u32 {
        index(&self.inside, "vx")
    }

    /// Puts everybody into one network and on the fast path.
    pub(super) fn fast(&self) -> FastPath {
        let mut path = FastPath::load().unwrap();
        let sides = self.containers.iter().map(|container| (container.port, Side::Container));
        let sides: Vec<_> = sides.chain([(self.tunnel(), Side::Tunnel(vni(4096)))]).collect();
        path.attach(&self.inside, &sides).unwrap();
        for container in &self.containers {
            path.set_port(container.port, container.entry(4096)).unwrap();
            path.set_station(vni(4096), mac(container.number), Target::Port(container.port)).unwrap();
        }
        path.set_station(vni(4096), mac(FAR), Target::Tunnel).unwrap();
        path
    }

    /// Only the fast path leads anywhere now.
    pub(super) fn without_bridge(&self) {
        sh(&self.inside, "ip link set br0 down");
    }

    /// Waits until the bridge takes frames from all of its ports, which is a moment after their links are up.
    fn forwards(&self) {
        let ports = self.containers.len() + 1;
        let ready = || sh(&self.inside, "bridge link show").matches("state forwarding").count() == ports;
        assert!((0..1000).any(|_| ready() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }));
    }

    /// Packets that have left for the other host.
    pub(super) fn sent(&self) -> u64 {
        let text = sh(&self.host, "ip -j -s link show wire");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    }
}

impl Container {
    fn begin(namespace: Namespace, number: u8, port: u32, (tunnel, mtu): (u32, u32)) -> Self {
        sh(
            &namespace,
            &format!(
                "ip addr add {}/24 dev eth0 && ip link set eth0 up && ip addr add {}/64 dev eth0 nodad",
                ip4(number),
                ip6(number)
            ),
        );
        let link = index(&namespace, "eth0");
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            bind(socket.as_raw_fd(), &packet_address(link, ALL).unwrap())?;
            Ok::<_, Errno>(socket)
        };
        let socket = namespace.run(open).unwrap().unwrap();
        Self { namespace, number, port, tunnel, mtu, link, socket }
    }

    /// What the program should know of it.
    pub(super) fn entry(&self, network: u32) -> PortEntry {
        let sources = Sources::of(&[ip4(self.number), ip6(self.number)]);
        PortEntry { vni: vni(network), tunnel: self.tunnel, mtu: self.mtu, mac: mac(self.number), sources }
    }

    fn knows(&self, number: u8) {
        for ip in [ip4(number), ip6(number)] {
            sh(
                &self.namespace,
                &format!("ip neigh replace {ip} lladdr {} dev eth0 nud permanent", mac(number)),
            );
        }
    }

    pub(super) fn send(&self, frame: &[u8]) {
        let link = packet_address(self.link, ALL).unwrap();
        match sendto(self.socket.as_raw_fd(), frame, &link, MsgFlags::MSG_DONTWAIT) {
            // What the other end of a link does not take.
            Ok(_) | Err(Errno::ENOBUFS) => {}
            Err(errno) => panic!("{}", io::Error::from(errno)),
        }
    }

    /// Whether a frame that ends like this one comes in: half a second is a long time for the kernel.
    pub(super) fn hears(&self, frame: &[u8]) -> bool {
        self.hears_within(frame, 500)
    }

    pub(super) fn hears_within(&self, frame: &[u8], millis: u64) -> bool {
        let end = &frame[frame.len() - super::frames::MARK..];
        let until = std::time::Instant::now() + Duration::from_millis(millis);
        let mut buffer = vec![0; 70_000];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) if buffer[..length].ends_with(end) => return true,
                Ok(_) => {}
                Err(Errno::EAGAIN) if std::time::Instant::now() > until => return false,
                Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
                Err(errno) => panic!("{}", io::Error::from(errno)),
            }
        }
    }

    /// Whether a ping to a container is answered; one of ten will do, since others use this machine as well.
    pub(super) fn pings(&self, ip: IpAddr) -> bool {
        let script = format!("ping -n -c 10 -i 0.01 -W 1 {ip} >/dev/null && echo yes || echo no");
        sh(&self.namespace, &script).trim() == "yes"
    }
}
