//! What is promised with a number: how soon a host without power is given up, that one with a dead daemon
//! never is, and how soon everybody knows what was done while the store was away.

use std::{net::IpAddr, time::Duration};

use rs_overlay::store::keys;
use tokio::time::{Instant, sleep};

use super::{
    faults::{self, Fault},
    host,
    link::Link,
    operations::{self, Command, Families},
    store,
    world::{self, World},
};

/// Runs `main` in three hosts that share a network, with a container on each, from several seeds.
fn with_three<F>(main: fn(World) -> F)
where
    F: Future<Output = Result<(), String>> + 'static,
{
    for seed in 0..5 {
        let run = world::run(seed, 3, true, move || async move {
            (0..3).for_each(host::start_daemon);
            sleep(Duration::from_secs(1)).await;
            let subnet = Some("10.9.0.0/24".parse().unwrap());
            operations::type_in(Command::CreateNetwork {
                host: 0,
                name: "red".into(),
                ours: true,
                subnet,
                families: Families::Both,
            });
            sleep(Duration::from_secs(1)).await;
            for (host, name) in ["a", "b", "c"].iter().enumerate() {
                operations::type_in(start(host, name, None));
            }
            sleep(Duration::from_secs(1)).await;
            let mut world = World::default();
            world.settle().await?;
            main(world).await
        });
        assert_eq!(run.wrong, None, "seed {seed}:\n{}", run.lines.join("\n"));
    }
}

fn start(host: usize, name: &str, ip: Option<IpAddr>) -> Command {
    let networks = vec!["red".to_owned()];
    Command::Run { host, name: name.to_owned(), networks, ip, aliases: Vec::new() }
}

/// The address of the only container of a host.
fn address(host: usize) -> IpAddr {
    let daemon = host::daemon(host).expect("the daemon runs");
    let address = daemon.local.read(|data| data.connected().next().map(|endpoint| endpoint.addresses[0]));
    address.expect("a container runs")
}

fn deaths() -> usize {
    store::with(|store| store.range(keys::DEAD)).len()
}

/// Waits until `reached`, at most for `most`; tells what was not reached.
async fn within(
    world: &mut World,
    most: Duration,
    what: &str,
    reached: impl Fn() -> bool,
) -> Result<(), String> {
    let end = Instant::now() + most;
    while !reached() {
        world.watch()?;
        if Instant::now() > end {
            return Err(format!("not within {most:?}: {what}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Whether host 0 still has a way to host 2's container.
fn host0_has_entries(of: usize) -> bool {
    let vtep = host::with(of, |host| host.vtep);
    let overlay = host::with(0, |host| host.kernel.overlay());
    overlay.networks().any(|(_, segment)| segment.fdb.values().any(|behind| *behind == vtep))
}

#[test]
fn a_host_without_power_is_given_up_in_15_seconds_and_welcome_again() {
    with_three(|mut world| async move {
        let address = address(2);
        faults::befall(Fault::PowerOff { host: 2, time: Duration::from_mins(2) });
        let gone = || deaths() == 1 && !host0_has_entries(2);
        within(&mut world, Duration::from_secs(15), "the host is given up", gone).await?;
        // Its address can be had at once.
        operations::carry_out(start(0, "heir", Some(address))).await?;
        sleep(Duration::from_mins(2)).await;
        faults::end_all();
        world.settle().await?;
        world.tear_down().await
    });
}

#[test]
fn a_host_whose_daemon_is_gone_is_never_given_up() {
    with_three(|mut world| async move {
        faults::befall(Fault::NoDaemon { host: 2, time: Duration::from_mins(2) });
        let end = Instant::now() + Duration::from_mins(2);
        while Instant::now() < end {
            world.watch()?;
            if deaths() > 0 || !host0_has_entries(2) {
                return Err("the host was given up".into());
            }
            sleep(Duration::from_secs(1)).await;
        }
        faults::end_all();
        world.settle().await?;
        world.tear_down().await
    });
}

#[test]
fn a_host_that_comes_back_late_leaves_its_address_to_its_heir() {
    with_three(|mut world| async move {
        let address = address(2);
        faults::befall(Fault::Isolate { host: 2, time: Duration::from_mins(1) });
        within(&mut world, Duration::from_secs(15), "the host is given up", || deaths() == 1).await?;
        operations::carry_out(start(0, "heir", Some(address))).await?;
        sleep(Duration::from_mins(1)).await;
        faults::end_all();
        world.settle().await?;
        let cut = host::daemon(2).ok_or("no daemon")?;
        if cut.local.read(|data| data.connected().count() > 0) {
            return Err("both have the address".into());
        }
        drop(cut);
        world.tear_down().await
    });
}

#[test]
fn what_ended_while_the_store_was_away_is_known_2_seconds_after_its_return() {
    with_three(|mut world| async move {
        let away = Link { down: true, ..Link::default() };
        let all = |link: Link| (0..3).for_each(|h| host::with(h, |host| _ = host.link.send_replace(link)));
        all(away);
        sleep(Duration::from_secs(1)).await;
        operations::carry_out(Command::Stop { host: 2, name: "c".into() }).await?;
        let end = Instant::now() + Duration::from_secs(40);
        while Instant::now() < end {
            world.watch()?;
            sleep(Duration::from_secs(1)).await;
        }
        all(Link::default());
        within(&mut world, Duration::from_secs(2), "the others know", || !host0_has_entries(2)).await?;
        world.settle().await?;
        world.tear_down().await
    });
}
