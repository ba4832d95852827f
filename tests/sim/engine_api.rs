//! The engine, as the daemon of its host sees it through the API.

use std::time::Duration;

use futures_util::FutureExt as _;
use rs_overlay::{
    engine::{
        EngineApi, EngineContainer, EngineError, EngineEvent, EngineEvents, EngineFuture, EngineInfo,
        EngineNetwork, NetworkSpec,
    },
    model::EngineMode,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    deck::{self, Owner},
    effects, engine_networks,
    host::{self, Host},
    luck,
};

/// The API of the engine of one host.
pub(crate) struct SimEngine(pub(crate) usize);

/// How long a change may take.
const CHANGE: Duration = Duration::from_mins(1);

fn unreachable() -> EngineError {
    EngineError::Unreachable { host: "sim".into(), detail: "connection refused".into() }
}

async fn look<T>(host: usize, look: impl FnOnce(&Host) -> T) -> Result<T, EngineError> {
    sleep(luck::millis(0..8)).await;
    host::with(host, |host| if host.engine.down { Err(unreachable()) } else { Ok(look(host)) })
}

/// Has the engine do something, which it does also if the asker is no more.
async fn change<T: Send + 'static>(
    host: usize,
    what: String,
    work: futures_util::future::BoxFuture<'static, Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let number = effects::before(host, || what.clone());
    look(host, |_| ()).await?;
    let (answer, answered) = oneshot::channel();
    deck::spawn(Owner::Engine(host), async move {
        // Nobody may wait any more.
        let _ = answer.send(work.await);
    });
    let done = match timeout(CHANGE, answered).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(unreachable()),
        Err(_) => Err(EngineError::Timeout { what: what.clone() }),
    };
    effects::after(host, number, || what.clone());
    done
}

impl EngineApi for SimEngine {
    fn version(&self) -> EngineFuture<'_, EngineInfo> {
        let info = EngineInfo { version: "28.5.2".into(), api_version: "1.44".into() };
        look(self.0, |_| info).boxed()
    }

    fn mode(&self) -> EngineFuture<'_, EngineMode> {
        look(self.0, |_| EngineMode::Plain).boxed()
    }

    fn networks<'a>(&'a self, driver: &'a str) -> EngineFuture<'a, Vec<EngineNetwork>> {
        look(self.0, move |host| {
            let engine = &host.engine;
            let ours = engine.networks.values().filter(|net| net.info.driver == driver);
            ours.map(|net| engine.shown(net)).collect()
        })
        .boxed()
    }

    fn network<'a>(&'a self, id_or_name: &'a str) -> EngineFuture<'a, Option<EngineNetwork>> {
        look(self.0, move |host| {
            let engine = &host.engine;
            let mut nets = engine.networks.values();
            let net = nets.find(|net| net.info.id == id_or_name || net.info.name == id_or_name);
            net.map(|net| engine.shown(net))
        })
        .boxed()
    }

    fn create_network<'a>(&'a self, spec: &'a NetworkSpec) -> EngineFuture<'a, String> {
        let (host, spec) = (self.0, spec.clone());
        change(
            host,
            format!("engine: create {}", spec.name),
            engine_networks::create_network_boxed(host, spec),
        )
        .boxed()
    }

    fn remove_network<'a>(&'a self, id: &'a str) -> EngineFuture<'a, ()> {
        let (host, id) = (self.0, id.to_owned());
        change(host, format!("engine: remove {id}"), engine_networks::remove_network_boxed(host, id)).boxed()
    }

    fn container<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<EngineContainer>> {
        look(self.0, move |host| host.engine.container(id)).boxed()
    }

    fn containers(&self) -> EngineFuture<'_, Vec<String>> {
        look(self.0, |host| {
            let running = host.engine.containers.values().filter(|container| container.running);
            let mut ids: Vec<_> = running.map(|container| container.id.clone()).collect();
            ids.sort();
            ids
        })
        .boxed()
    }

    fn plugin_name<'a>(&'a self, id: &'a str) -> EngineFuture<'a, String> {
        // Engines of the simulation have plain plugins only.
        look(self.0, move |_| id.to_owned()).boxed()
    }

    fn events(&self) -> EngineEvents {
        let (sender, receiver) = mpsc::channel(256);
        host::with(self.0, |host| {
            if !host.engine.down {
                // The queue is new and empty.
                let _ = sender.try_send(EngineEvent::Connected);
            }
            host.engine.listeners.push(sender);
        });
        EngineEvents::from_channel(receiver)
    }
}
