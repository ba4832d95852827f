//! What can go wrong, and its end.

use std::{sync::Arc, time::Duration};

use rs_overlay::{engine::EngineEvent, local::witness::Moment};
use tokio::time::sleep;

use super::{
    deck::{self, Owner},
    effects::{self, Ending},
    engine, engine_calls, host, journal,
    link::Link,
    luck,
    store::{self, Mode},
};

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// `kill -9`, and somebody starts it again.
    KillDaemon { host: usize },
    /// The same, at an effect that is still to come.
    KillDaemonAt { host: usize, ending: Ending },
    /// Killed, and nobody there for a time.
    NoDaemon { host: usize, time: Duration },
    /// `SIGSTOP` and `SIGCONT`.
    FreezeDaemon { host: usize, time: Duration },
    /// A virtual machine that is paused.
    FreezeHost { host: usize, time: Duration },
    /// The engine is killed; `keeps` is live restore.
    KillEngine { host: usize, time: Duration, keeps: bool },
    /// No power.
    PowerOff { host: usize, time: Duration },
    /// Its cable is pulled.
    Isolate { host: usize, time: Duration },
    /// A host's way to the store.
    Link { host: usize, link: Link, time: Duration },
    /// Nobody reaches the store.
    StoreAway { refuses: bool, time: Duration },
    /// The store refuses changes.
    StoreRefuses { mode: Mode, time: Duration },
    /// Watches have to list anew.
    Compact,
    /// All leases are lost.
    LoseLeases,
    /// The store comes back with nothing in it.
    Wipe,
    /// Somebody changes the kernel behind the daemon's back.
    Meddle { host: usize },
    /// No room for state files.
    FullDisk { host: usize, time: Duration },
}

/// Something that might go wrong now.
pub(crate) fn any() -> Fault {
    // Not part of a plain run.
    if std::env::var_os("WIPES").is_some() && luck::percent(5) {
        return Fault::Wipe;
    }
    let host = luck::number(0..host::count());
    let time = luck::millis(200..if luck::percent(20) { 60_000 } else { 8_000 });
    match luck::number(0..100) {
        0..10 => Fault::KillDaemon { host },
        10..30 => {
            let moment = if luck::percent(50) { Moment::Before } else { Moment::After };
            Fault::KillDaemonAt { host, ending: Ending { at: luck::number(0..12), moment } }
        }
        30..35 => Fault::NoDaemon { host, time },
        35..39 => Fault::FreezeDaemon { host, time },
        39..43 => Fault::FreezeHost { host, time },
        43..50 => Fault::KillEngine { host, time, keeps: luck::percent(50) },
        50..54 => Fault::PowerOff { host, time },
        54..57 => Fault::Isolate { host, time },
        57..64 => {
            let link = Link { down: true, refuses: luck::percent(30), ..Link::default() };
            Fault::Link { host, link, time }
        }
        64..68 => Fault::Link { host, link: Link { slow: Duration::from_secs(5), ..Link::default() }, time },
        68..74 => Fault::Link { host, link: Link { errors: 30, loses: 30, ..Link::default() }, time },
        74..80 => Fault::StoreAway { refuses: luck::percent(30), time },
        80..84 => Fault::StoreRefuses { mode: Mode::ReadOnly, time },
        84..88 => Fault::StoreRefuses { mode: Mode::Full, time },
        88..91 => Fault::Compact,
        91..93 => Fault::LoseLeases,
        93..97 => Fault::Meddle { host },
        _ => Fault::FullDisk { host, time },
    }
}

/// Lets it go wrong; what has an end ends by itself.
pub(crate) fn befall(fault: Fault) {
    journal::step(format!("{fault:?}"));
    match fault {
        Fault::KillDaemon { host } => host::kill_daemon(host),
        Fault::KillDaemonAt { host, ending } => effects::end_at(host, ending),
        Fault::NoDaemon { host, time } => {
            if !host::with(host, |host| host.powered) {
                return;
            }
            host::with(host, |host| host.kept = false);
            host::kill_daemon(host);
            later(time, move || {
                // Where there is no power meanwhile, the daemon comes with it.
                if host::with(host, |host| host.powered) {
                    host::with(host, |host| host.kept = true);
                    host::start_daemon(host);
                }
            });
        }
        Fault::FreezeDaemon { host, time } => freeze(&[Owner::Daemon(host)], time),
        Fault::FreezeHost { host, time } => {
            host::with(host, |host| host.paused = true);
            freeze(&[Owner::Daemon(host), Owner::Engine(host)], time);
            later(time, move || host::with(host, |host| host.paused = false));
        }
        Fault::Isolate { host, time } => {
            let link = Link { down: true, ..Link::default() };
            set_isolated(host, true, link);
            later(time, move || set_isolated(host, false, Link::default()));
        }
        Fault::KillEngine { host, time, keeps } => {
            engine::stop(host);
            later(time, move || {
                if host::with(host, |host| host.powered) {
                    start_engine(host, keeps);
                }
            });
        }
        Fault::PowerOff { host, time } => {
            power_off(host);
            later(time, move || power_on(host));
        }
        Fault::Link { host, link, time } => {
            set_link(host, link);
            later(time, move || set_link(host, Link::default()));
        }
        Fault::StoreAway { refuses, time } => {
            let set = |link: Link| (0..host::count()).for_each(|host| set_link(host, link));
            set(Link { down: true, refuses, ..Link::default() });
            later(time, move || set(Link::default()));
        }
        Fault::StoreRefuses { mode, time } => {
            store::with(|store| store.mode = mode);
            later(time, || store::with(|store| store.mode = Mode::Writable));
        }
        Fault::Compact => store::with(store::Cluster::compact),
        Fault::LoseLeases => store::with(store::Cluster::lose_leases),
        Fault::Wipe => store::with(store::Cluster::wipe),
        Fault::Meddle { host } => meddle(host),
        Fault::FullDisk { host, time } => {
            effects::fill_disk(host, true);
            later(time, move || effects::fill_disk(host, false));
        }
    }
}

fn later(time: Duration, act: impl FnOnce() + 'static) {
    deck::spawn(Owner::World, async move {
        sleep(time).await;
        act();
    });
}

/// A host that is cut off from all others gets its way to the store back with the rest: one that has this alone, and
/// nobody else who could ask, rightly finds all others dead.
fn set_link(host: usize, link: Link) {
    host::with(host, |host| {
        if !host.isolated {
            host.link.send_replace(link);
        }
    });
}

fn set_isolated(host: usize, isolated: bool, link: Link) {
    host::with(host, |host| {
        host.isolated = isolated;
        host.link.send_replace(link);
    });
}

fn freeze(owners: &[Owner], time: Duration) {
    let owners = owners.to_owned();
    let set = move |frozen| {
        for owner in &owners {
            deck::freeze(*owner, frozen);
        }
    };
    set(true);
    later(time, move || set(false));
}

/// No power: nothing but what is on disks is left.
fn power_off(host: usize) {
    engine::stop(host);
    host::with(host, |host| host.kept = false);
    host::kill_daemon(host);
    host::with(host, |host| {
        host.powered = false;
        host.kernel = Arc::default();
        host.boot += 1;
        for container in host.engine.containers.values_mut() {
            container.running = false;
            if let Some(sandbox) = container.sandbox.take() {
                let _ = std::fs::remove_file(sandbox);
            }
            container.endpoints.values_mut().for_each(|place| place.joined = false);
        }
    });
}

fn power_on(host: usize) {
    if host::with(host, |host| host.powered) {
        return;
    }
    host::with(host, |host| {
        host.kept = true;
        host.powered = true;
    });
    host::start_daemon(host);
    start_engine(host, true);
}

/// The engine of a host comes back. Containers that it does not keep are ended; of those that have ended it
/// cleans up what it remembers, and it starts those again that it is to restart.
pub(crate) fn start_engine(host: usize, keeps: bool) {
    let down = host::with(host, |host| std::mem::replace(&mut host.engine.down, false));
    if !down {
        return;
    }
    journal::note(|| format!("host{host}: the engine is back"));
    let was_running: Vec<_> = host::with(host, |host| {
        let containers = host.engine.containers.iter_mut();
        containers
            .filter_map(|(name, container)| {
                let restarts = container.restarts && !(container.running && keeps);
                if !keeps {
                    container.running = false;
                    container.endpoints.values_mut().for_each(|place| place.joined = false);
                }
                restarts.then(|| name.clone())
            })
            .collect()
    });
    let remembered = engine::forget_unfinished(host);
    host::with(host, |host| host.engine.tell(&EngineEvent::Connected));
    deck::spawn(Owner::Engine(host), async move {
        for (name, network, place) in remembered {
            engine_calls::leave(host, &name, &network, &place).await;
        }
        for name in was_running {
            let ended = engine_calls::start(host, &name).await;
            journal::note(|| format!("host{host}: restart of {name} -> {ended:?}"));
        }
    });
}

fn meddle(host: usize) {
    let kernel = host::with(host, |host| {
        host.meddled = Some(tokio::time::Instant::now());
        Arc::clone(&host.kernel)
    });
    let way = luck::number(0..5);
    kernel.meddle(|overlay| {
        let Some(vni) = overlay.segments.keys().next().copied() else { return };
        let segment = overlay.segments.get_mut(&vni).unwrap();
        match way {
            0 => segment.fdb.clear(),
            1 => segment.neighbours.clear(),
            2 => segment.fdb.values_mut().for_each(|vtep| *vtep = [192, 0, 2, 250].into()),
            3 => segment.ports.clear(),
            _ => drop(overlay.segments.remove(&vni)),
        }
    });
}

/// Ends everything that is wrong.
pub(crate) fn end_all() {
    journal::step("all faults end");
    effects::spare_all();
    store::with(|store| store.mode = Mode::Writable);
    for host in 0..host::count() {
        deck::freeze(Owner::Daemon(host), false);
        deck::freeze(Owner::Engine(host), false);
        host::with(host, |host| {
            host.kept = true;
            host.powered = true;
            host.paused = false;
            host.isolated = false;
            host.link.send_replace(Link::default());
        });
        host::start_daemon(host);
        start_engine(host, true);
    }
}
