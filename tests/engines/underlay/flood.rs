//! `-o flood=on`: kept by all engines, carried to hosts with endpoints, and off without it.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use netns_harness::{Host, Lab};

use crate::{
    cli, inside,
    kit::{create, ping, refused, remove, run, says, vanishes},
};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 9, 8, 7);
const PORT: u16 = 5000;
const COUNT: u8 = 10;

fn four(host: &Host, container: &str, network: &str) -> Ipv4Addr {
    let IpAddr::V4(ip) = host.address(container, network).unwrap() else { panic!("IPv4") };
    ip
}

/// A receiver in a container, which has joined the group there.
fn listen(host: &Host, container: &str, network: &str) -> UdpSocket {
    let own = four(host, container, network);
    inside(host, container, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        socket.join_multicast_v4(&GROUP, &own).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    })
}

/// Numbered packets to the group, and others to the subnet's broadcast address, by the interface of `network`.
fn send(host: &Host, container: &str, network: &str, broadcast: Ipv4Addr) {
    let route = format!(
        "ip route replace 239.0.0.0/8 dev $(ip -o addr | sed -n 's/^[0-9]*: \\([^ ]*\\) .* {}\\/.*/\\1/p')",
        four(host, container, network)
    );
    host.container_netns(container, &["sh", "-c", &route]).unwrap();
    inside(host, container, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        for n in 0..COUNT {
            socket.send_to(&[n], (GROUP, PORT)).unwrap();
            socket.send_to(&[100 + n], (broadcast, PORT)).unwrap();
        }
    });
}

/// What arrives until `want` have, or nothing has for two seconds.
fn heard(socket: &UdpSocket, want: usize) -> Vec<u8> {
    let (mut numbers, mut last, mut buffer) = (Vec::new(), Instant::now(), [0; 8]);
    while last.elapsed() < Duration::from_secs(2) && numbers.len() < want {
        if socket.recv(&mut buffer).is_ok() {
            numbers.push(buffer[0]);
            last = Instant::now();
        }
    }
    numbers.sort_unstable();
    numbers
}

fn all() -> Vec<u8> {
    (0..COUNT).chain(100..100 + COUNT).collect()
}

/// UDP packets that a host has received for nobody: the port of the tunnels is nobody's where there are none.
fn strays(host: &Host) -> u64 {
    let text = host.exec(&["nstat", "-asz", "UdpNoPorts"]).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// Hosts 1 and 2 have containers in the network, host 3 has none.
pub(crate) fn on_demand(lab: &Lab) {
    let (one, two, three) = (lab.host(1), lab.host(2), lab.host(3));
    let wrong = [
        "network",
        "create",
        "-d",
        "rs-overlay",
        "--ipam-driver",
        "rs-overlay",
        "-o",
        "flood=maybe",
        "wrong",
    ];
    says(&refused(two, &wrong), &["flood", "maybe", "`on`", "`off`"]);
    create(lab, 1, "loud", &["--subnet", "10.71.0.0/24", "-o", "flood=on"]);
    create(lab, 2, "calm", &["--subnet", "10.72.0.0/24"]);
    for host in lab.hosts() {
        let options = host.docker(&["network", "inspect", "-f", "{{json .Options}}", "loud"]).unwrap();
        says(&options, &["flood", "on"]);
        says(&cli(host, &["network", "inspect", "loud"]).unwrap(), &["flood"]);
    }
    for (host, name) in [(one, "f1"), (two, "f2")] {
        run(host, name, "loud", &[]);
        host.docker(&["network", "connect", "calm", name]).unwrap();
    }
    for network in ["loud", "calm"] {
        ping(one, "f1", two.address("f2", network).unwrap());
    }
    let before = strays(three);
    let far = listen(two, "f2", "loud");
    send(one, "f1", "loud", [10, 71, 0, 255].into());
    assert_eq!(heard(&far, all().len()), all(), "{}", one.daemon_log());
    assert_eq!(strays(three), before, "a host without an endpoint has got packets of the network");
    drop(far);
    let back = listen(one, "f1", "loud");
    send(two, "f2", "loud", [10, 71, 0, 255].into());
    assert_eq!(heard(&back, all().len()), all());
    drop(back);

    let far = listen(two, "f2", "calm");
    send(one, "f1", "calm", [10, 72, 0, 255].into());
    assert_eq!(heard(&far, 1), Vec::<u8>::new(), "a network without the option floods");
    drop(far);
    says(&cli(one, &["verify"]).unwrap(), &["no difference"]);

    // The third host takes part from its first container on.
    run(three, "f3", "loud", &[]);
    ping(one, "f1", three.address("f3", "loud").unwrap());
    let far = listen(three, "f3", "loud");
    send(one, "f1", "loud", [10, 71, 0, 255].into());
    assert_eq!(heard(&far, all().len()), all());
    for (host, name) in [(one, "f1"), (two, "f2"), (three, "f3")] {
        remove(host, &[name]);
    }
    for network in ["loud", "calm"] {
        one.docker(&["network", "rm", network]).unwrap();
        vanishes(lab, network);
    }
}
