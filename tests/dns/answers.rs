//! What a container gets to hear.

use std::collections::BTreeSet;

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::RecordType,
};
use rs_overlay::dns::Interceptor;

use crate::{
    client::{PORT, addresses, ask, data, query, tcp, udp, udp_socket},
    lab::{Lab, allowed},
    resolver::{HELD, answer},
    scene::{LOCAL, names, sandbox, sandbox_with},
};

#[tokio::test(flavor = "multi_thread")]
async fn ours_are_answered_and_the_rest_is_docker_s() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    for iptables in ["iptables-nft", "iptables-legacy"] {
        let (net, _docker) = sandbox_with(&lab, iptables);
        assert_eq!(addresses(&net, "shop-web-2."), Vec::<String>::new(), "nobody answers yet");
        let _ours = Interceptor::open(&net.path(), names("a")).unwrap();

        for name in ["shop-web-2.", "SHOP-Web-2.", "shop-web-2.shop.", "0000abc00002."] {
            assert_eq!(addresses(&net, name), ["10.9.0.3"], "{name} with {iptables}");
        }
        let both: BTreeSet<_> = addresses(&net, "web.").into_iter().collect();
        assert_eq!(both, ["10.9.0.2", "10.9.0.3"].map(String::from).into());
        let six = ask(&net, "web.", RecordType::AAAA);
        assert_eq!((six.metadata.response_code, six.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(data(&ask(&net, "3.0.9.10.in-addr.arpa.", RecordType::PTR)), ["shop-web-2.shop."]);

        let plain = |name, kind| query(name, kind).to_vec().unwrap();
        let (ours, local, other) = (
            plain("shop-web-1.", RecordType::A),
            plain("local.example.", RecordType::A),
            plain("example.com.", RecordType::TXT),
        );
        // Docker's resolver closes its connection after two messages; ours must not show it.
        let many: [&[u8]; 6] = [&local, &ours, &local, &other, &local, &ours];
        for (query, heard) in many.iter().zip(tcp(&net, PORT, &many)) {
            if *query == ours {
                assert_eq!(data(&Message::from_vec(&heard).unwrap()), ["10.9.0.2"]);
            } else {
                assert_eq!(heard, answer(query, LOCAL), "over TCP with {iptables}");
            }
        }
        // What Docker answers may be ours in part a moment later.
        assert_eq!(ask(&net, "local.", RecordType::A).answers[0].ttl, 5);
        for query in [&local, &other, &b"rubbish, yet to be relayed".to_vec()] {
            assert_eq!(udp(&net, PORT, query), answer(query, LOCAL), "over UDP with {iptables}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_may_come_is_not_remembered_as_missing() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (net, _docker) = sandbox(&lab);
    let _ours = Interceptor::open(&net.path(), names("a")).unwrap();
    for (name, seconds) in [
        ("soon.", 0),
        ("soon.shop.", 0),
        ("soon.example.com.", 86400),
        ("soon.back.", 86400),
        ("77.0.9.10.in-addr.arpa.", 0),
    ] {
        let heard = ask(&net, name, RecordType::A);
        assert_eq!(heard.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(heard.authorities[0].ttl, seconds, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_keep_to_the_room_there_is() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (net, _docker) = sandbox(&lab);
    let _ours = Interceptor::open(&net.path(), names("a")).unwrap();
    let plain = query("crowd.", RecordType::A).to_vec().unwrap();
    let heard = udp(&net, PORT, &plain);
    assert!(heard.len() <= 512);
    assert!(Message::from_vec(&heard).unwrap().metadata.truncation);

    let mut roomy = query("crowd.", RecordType::A);
    roomy.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(4096);
    let heard = udp(&net, PORT, &roomy.to_vec().unwrap());
    assert!(heard.len() <= 4096 && heard.len() > 4000, "{}", heard.len());
    let heard = Message::from_vec(&heard).unwrap();
    assert!(heard.metadata.truncation && heard.edns.is_some());

    let whole = Message::from_vec(&tcp(&net, PORT, &[&plain])[0]).unwrap();
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (1000, false));
    let shown = net.sh("dig +short @127.0.0.11 crowd");
    assert_eq!(shown.lines().count(), 1000, "dig turns to TCP by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_take_turns() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (net, _docker) = sandbox(&lab);
    let _ours = Interceptor::open(&net.path(), names("a")).unwrap();
    // That one of two never comes first in 64 draws has a chance of 1 in 2^63.
    let first: BTreeSet<_> = (0..64).map(|_| addresses(&net, "web.").remove(0)).collect();
    assert_eq!(first.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_knows_its_own_networks_only() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let places = ["a", "b", "ab"].map(|networks| {
        let (net, docker) = sandbox(&lab);
        let ours = Interceptor::open(&net.path(), names(networks)).unwrap();
        (net, docker, ours)
    });
    let seen = |name: &str| places.each_ref().map(|(net, ..)| addresses(net, name).len());
    assert_eq!(seen("shop-web-1."), [1, 0, 1]);
    assert_eq!(seen("db."), [0, 1, 1]);
    assert_eq!(seen("db.back."), [0, 1, 1]);
    let reverse = |n: usize| data(&ask(&places[n].0, "2.0.8.10.in-addr.arpa.", RecordType::PTR));
    assert_eq!((reverse(0), reverse(1)), (vec![], vec!["db.back.".to_owned()]));
}

/// The stand-in answers when all have come, so they must all be under way at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_forwarded_at_once() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (net, _docker) = sandbox(&lab);
    let _ours = Interceptor::open(&net.path(), names("a")).unwrap();
    let sockets: Vec<_> = (0..100).map(|_| udp_socket(&net)).collect();
    let began = std::time::Instant::now();
    for (n, socket) in sockets.iter().cycle().take(HELD).enumerate() {
        let mut query = query(&format!("hold-{n}."), RecordType::A);
        query.metadata.id = u16::try_from(n).unwrap();
        socket.send_to(&query.to_vec().unwrap(), "127.0.0.11:53").unwrap();
    }
    let mut ids = BTreeSet::new();
    for socket in sockets.iter().cycle().take(HELD) {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{} came: {error}", ids.len()));
        let heard = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(heard.queries[0].name().to_string(), format!("hold-{}.", heard.metadata.id));
        assert_eq!(data(&heard), [LOCAL.to_string()]);
        ids.insert(heard.metadata.id);
    }
    assert_eq!(ids.len(), HELD);
    println!("{HELD} forwarded at once, in {:?}", began.elapsed());
}
