//! Names of containers on all hosts, asked from inside containers of real engines.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/dns.rs"]
mod dns;

#[path = "engines/compared.rs"]
mod compared;

#[path = "engines/everywhere.rs"]
mod everywhere;

#[path = "engines/figures.rs"]
mod figures;

#[path = "engines/names.rs"]
mod names;

use netns_harness::{EngineVersion, Lab, StoreKind};

use EngineVersion::{V20_10_24, V26_1, V28_5};

fn lab(engines: &[EngineVersion]) -> Lab {
    let outside = [("outside.example", "198.51.100.7".parse().unwrap())];
    kit::builder(engines, StoreKind::Etcd).resolver(&outside).build().unwrap()
}

#[test]
fn answered_and_followed_across_hosts() {
    if kit::allowed() {
        let lab = lab(&[V20_10_24, V28_5]);
        names::answered(&lab);
        names::apart(&lab);
        names::looked_up(&lab);
        names::followed(&lab);
        names::at_once(&lab);
        names::without_the_daemon(&lab);
        names::end(&lab);
        kit::assert_clean(&lab);
    }
}

#[test]
fn on_four_hosts_with_three_kinds_of_engines() {
    if kit::allowed() {
        let lab = lab(&[V20_10_24, V26_1, V28_5, V28_5]);
        let mut figures = figures::Figures::default();
        let scene = |name: &str, play: &mut dyn FnMut()| {
            let started = std::time::Instant::now();
            play();
            eprintln!("scene {name} took {:.1?}", started.elapsed());
        };
        scene("everyone", &mut || everywhere::everyone(&lab));
        scene("followed", &mut || everywhere::followed(&lab, &mut figures));
        scene("unsettled", &mut || everywhere::unsettled(&lab));
        scene("since when", &mut || everywhere::since_when(&lab));
        scene("options", &mut || everywhere::options(&lab));
        scene("shared only", &mut || everywhere::shared_only(&lab));
        scene("first process", &mut || everywhere::first_process(&lab));
        scene("after the daemon", &mut || everywhere::after_the_daemon(&lab, &mut figures));
        scene("after the engine", &mut || everywhere::after_the_engine(&lab, &mut figures));
        figures.tell();
        kit::assert_clean(&lab);
    }
}

/// Mostly they wait for those of Docker's answers that never come, so they do that side by side.
#[test]
fn as_on_a_bridge() {
    if kit::allowed() {
        std::thread::scope(|scope| {
            for engine in [V20_10_24, V26_1, V28_5] {
                scope.spawn(move || compared::on(&lab(&[engine])));
            }
        });
    }
}
