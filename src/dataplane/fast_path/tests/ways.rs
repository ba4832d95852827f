//! What is known goes past the bridge, and nothing else does.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
};

use super::{
    frames::{EVERYBODY, ip},
    scene::{Container, FAR, Scene, ip4, ip6, mac, vni},
};
use crate::dataplane::fast_path::{Target, tests::scene::sh};

/// Sends 16 MB of TCP from one to the other, which takes super-packets, and answers how many came.
fn bulk(from: &Container, to: &Container, ip: IpAddr) -> usize {
    const PART: usize = 64 * 1024;
    let listener = to.namespace.run(|| TcpListener::bind((ip, 7001)).unwrap()).unwrap();
    let mut sender = None;
    let receiver = std::thread::scope(|scope| {
        let accepted = scope.spawn(|| listener.accept().unwrap().0);
        sender = Some(from.namespace.run(|| TcpStream::connect((ip, 7001)).unwrap()).unwrap());
        accepted.join().unwrap()
    });
    std::thread::scope(|scope| {
        let sum = scope.spawn(move || {
            let (mut receiver, mut buffer, mut count) = (receiver, vec![0; PART], 0);
            loop {
                match receiver.read(&mut buffer).unwrap() {
                    0 => return count,
                    length => count += length,
                }
            }
        });
        let mut sender = sender.take().unwrap();
        (0..256).for_each(|_| sender.write_all(&vec![7; PART]).unwrap());
        drop(sender);
        sum.join().unwrap()
    })
}

#[test]
fn known_stations_need_no_bridge() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let scene = Scene::new(2, 1450);
    let path = scene.fast();
    let [one, two] = &scene.containers[..] else { panic!("two") };
    scene.without_bridge();
    for ip in [ip4(2), ip6(2), ip4(FAR), ip6(FAR)] {
        assert!(one.pings(ip), "{ip}: {:?}", path.forged());
    }
    for ip in [ip4(1), ip6(2)] {
        assert!(scene.far.pings(ip), "{ip}: {:?}", path.forged());
    }
    for (from, to, ip) in
        [(one, two, ip4(2)), (one, two, ip6(2)), (one, &scene.far, ip4(FAR)), (&scene.far, two, ip6(2))]
    {
        assert_eq!(bulk(from, to, ip), 16 << 20, "{ip}: {:?}", path.forged());
    }
    let forged = path.forged().unwrap();
    assert_eq!((forged.mac, forged.address), (0, 0));
}

#[test]
fn what_is_not_known_takes_the_bridge() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let scene = Scene::new(2, 1450);
    let mut path = scene.fast();
    let [one, two] = &scene.containers[..] else { panic!("two") };
    for number in [1, 2, FAR] {
        path.remove_station(vni(4096), mac(number)).unwrap();
        path.remove_station(vni(4096), mac(number)).unwrap();
    }
    let frame = ip(EVERYBODY, mac(1), ip4(1), ip4(2), 100);
    let before = scene.sent();
    one.send(&frame);
    assert!(two.hears(&frame), "a frame for all");
    assert!(scene.far.hears(&frame), "a frame for all, on the other host");
    assert!(scene.sent() > before);
    for ip in [ip4(2), ip6(2), ip4(FAR), ip6(FAR)] {
        assert!(one.pings(ip), "{ip}");
    }
    // Without a bridge that is the end, also for frames for all whose stations are known.
    path.set_station(vni(4096), mac(2), Target::Port(two.port)).unwrap();
    scene.without_bridge();
    let frame = ip(EVERYBODY, mac(1), ip4(1), ip4(2), 100);
    one.send(&frame);
    assert!(!two.hears_within(&frame, 30));
}

#[test]
fn networks_see_nothing_of_each_other() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let scene = Scene::new(3, 1450);
    let mut path = scene.fast();
    scene.without_bridge();
    let [one, two, three] = &scene.containers[..] else { panic!("three") };
    // Two and three have one MAC, each in a network of its own.
    path.set_port(three.port, three.entry(4097)).unwrap();
    path.set_station(vni(4097), mac(2), Target::Port(three.port)).unwrap();
    path.remove_station(vni(4096), mac(3)).unwrap();
    let frame = ip(mac(2).octets(), mac(1), ip4(1), ip4(2), 100);
    one.send(&frame);
    assert!(two.hears(&frame) && !three.hears_within(&frame, 30));
    let unknown = ip(mac(3).octets(), mac(1), ip4(1), ip4(3), 100);
    one.send(&unknown);
    assert!(!three.hears_within(&unknown, 30));
    // Container one changes the network: the same frame has another way.
    path.set_port(one.port, one.entry(4097)).unwrap();
    let frame = ip(mac(2).octets(), mac(1), ip4(1), ip4(2), 100);
    one.send(&frame);
    assert!(three.hears(&frame) && !two.hears_within(&frame, 30));
    // What comes by the tunnel belongs to the tunnel's network.
    let frame = ip(mac(3).octets(), mac(FAR), ip4(FAR), ip4(3), 100);
    path.set_station(vni(4097), mac(3), Target::Port(three.port)).unwrap();
    scene.far.send(&frame);
    assert!(!three.hears_within(&frame, 30));
    path.set_station(vni(4096), mac(3), Target::Port(three.port)).unwrap();
    scene.far.send(&frame);
    assert!(three.hears(&frame));
}

/// A container that sends more than its network takes is stopped where it was before: at the port.
#[test]
fn an_oversize_frame_has_no_way_either() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let scene = Scene::new(2, 1450);
    let path = scene.fast();
    let [one, two] = &scene.containers[..] else { panic!("two") };
    sh(&one.namespace, "ip link set eth0 mtu 3000");
    for station in [2, FAR] {
        let fits = ip(mac(station).octets(), mac(1), ip4(1), ip4(station), 1430);
        let oversize = ip(mac(station).octets(), mac(1), ip4(1), ip4(station), 1500);
        let at = if station == 2 { two } else { &scene.far };
        one.send(&fits);
        assert!(at.hears(&fits), "{station}");
        one.send(&oversize);
        assert!(!at.hears_within(&oversize, 30), "{station}: {:?}", path.forged());
    }
}
