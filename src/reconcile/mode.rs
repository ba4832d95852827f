//! Keeps up with how the engine runs, beside all calls: an engine holds locks while it calls us, and
//! activates plugins before its API answers.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    engine::{EngineApi, EngineEvent, EngineEvents},
    local::Local,
    model::{EngineMode, Role, Scope, ScopeChoice},
    watched::Watched,
};

/// How often an engine is asked that has said nothing of itself: it tells nobody that it joins a swarm.
const AGAIN: Duration = Duration::from_secs(10);
/// How soon after it did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// How long `GetCapabilities` waits for an engine that was never heard of.
const UNKNOWN: Duration = Duration::from_secs(2);
/// How long for one whose last word is known: at its own start its API answers nobody, and it waits for us.
const UNCONFIRMED: Duration = Duration::from_millis(300);

/// This host's role, for all that decide by it.
#[derive(Clone)]
pub struct Roles {
    role: Arc<watch::Sender<Role>>,
    /// Where it is remembered; absent: nowhere.
    local: Option<Arc<Local>>,
}

impl Roles {
    /// The role as an earlier run of the daemon has left it.
    pub fn new(choice: ScopeChoice, managed: bool, local: Arc<Local>) -> Self {
        let known = local.known_mode();
        let role =
            Role { choice, managed, engine: known.engine, confirmed: false, registered: known.registered };
        Self { role: Arc::new(watch::channel(role).0), local: Some(local) }
    }

    /// A role that depends on no engine.
    pub fn fixed(scope: Scope) -> Self {
        Self { role: Arc::new(watch::channel(Role::fixed(scope)).0), local: None }
    }

    /// Follows the role.
    pub fn watch(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// The role now.
    pub fn now(&self) -> Role {
        self.role.now()
    }

    /// The scope with which the engine registers the driver now. Waits for the engine's word only as long as
    /// an engine can be kept waiting.
    pub async fn register(&self) -> Scope {
        let mut role = self.watch();
        let (sure, known) = {
            let role = role.now();
            (role.choice != ScopeChoice::Auto || role.confirmed, role.engine.is_some())
        };
        if !sure {
            let wait = if known { UNCONFIRMED } else { UNKNOWN };
            // A timeout is no error: the last known mode, or the usual one, is what is answered then.
            let _ = timeout(wait, role.wait_for(|role| role.confirmed)).await;
        }
        let scope = self.role.see(Role::scope);
        self.change(|role| role.registered = Some(scope));
        scope
    }

    /// The engine has said how it runs.
    fn heard(&self, engine: &EngineMode) {
        self.change(|role| {
            role.engine = Some(engine.clone());
            role.confirmed = true;
        });
    }

    /// The engine is away. When it is back it may be another one, and has registered nothing.
    fn lost(&self) {
        self.change(|role| {
            role.confirmed = false;
            role.registered = None;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Role)) {
        let (mut before, mut now) = (Role::default(), Role::default());
        let changed = self.role.send_if_modified(|role| {
            before = role.clone();
            change(role);
            now = role.clone();
            before != now
        });
        if !changed {
            return;
        }
        if (&before.engine, before.registered) != (&now.engine, now.registered)
            && let Some(local) = &self.local
            && let Err(error) = local.set_known_mode(now.engine.clone(), now.registered)
        {
            warn!(%error, "cannot remember how the engine runs");
        }
        if before.engine != now.engine || before.choice != now.choice {
            info!(scope = now.scope().as_str(), "how the engine runs: {}", now.explanation());
        }
        let known = before.problems();
        for problem in now.problems().iter().filter(|problem| !known.contains(problem)) {
            warn!("{problem}");
        }
    }
}

/// The task that asks.
pub struct ModeFinder {
    /// The engine.
    pub engine: Arc<dyn EngineApi>,
    /// Where it is told.
    pub roles: Roles,
}

impl ModeFinder {
    /// Runs until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let mut events = self.engine.events();
        let mut pause = AGAIN;
        loop {
            // Every arm is cancel safe.
            let ask = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                there = there_or_away(&mut events) => there,
                () = tokio::time::sleep(pause) => true,
            };
            if !ask {
                self.roles.lost();
                pause = AGAIN;
                continue;
            }
            let answer = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                answer = self.engine.mode() => answer,
            };
            pause = match answer {
                Ok(mode) => {
                    self.roles.heard(&mode);
                    AGAIN
                }
                Err(error) => {
                    debug!(%error, "the engine does not say how it runs");
                    RETRY
                }
            };
        }
    }
}

/// Waits until the engine comes (`true`) or goes (`false`). Cancel safe: what is passed over says nothing.
async fn there_or_away(events: &mut EngineEvents) -> bool {
    loop {
        match events.next().await {
            Some(EngineEvent::Connected) => return true,
            Some(EngineEvent::Lost(_)) => return false,
            Some(EngineEvent::Network { .. } | EngineEvent::Container { .. }) => {}
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classic() -> EngineMode {
        EngineMode::Classic { store: "etcd://h:2379".into(), advertise: "192.0.2.1:2376".into() }
    }

    fn roles(local: &Arc<Local>) -> Roles {
        Roles::new(ScopeChoice::Auto, false, Arc::clone(local))
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_word_of_the_engine_is_remembered_and_answered_at_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let local = Arc::new(Local::open(dir.path(), 1).unwrap());
        let first = roles(&local);
        assert_eq!(first.register().await, Scope::Local, "nothing is known, and nobody answers");
        first.heard(&classic());
        assert_eq!(first.now().problems().len(), 1, "it has registered another scope");
        first.lost();
        assert_eq!(first.now().problems(), [""; 0]);
        assert_eq!(first.register().await, Scope::Global);
        let next = roles(&local).now();
        assert_eq!((next.engine, next.registered), (Some(classic()), Some(Scope::Global)));
        assert!(!next.confirmed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_the_first_word() {
        let dir = tempfile::tempdir().unwrap();
        let roles = roles(&Arc::new(Local::open(dir.path(), 1).unwrap()));
        let speaks = async {
            tokio::time::sleep(UNKNOWN / 2).await;
            roles.heard(&classic());
        };
        let (scope, ()) = tokio::join!(roles.register(), speaks);
        assert_eq!(scope, Scope::Global);
        let begin = tokio::time::Instant::now();
        roles.register().await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
