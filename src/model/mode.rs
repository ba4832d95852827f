//! How an engine runs, and what follows from it for the driver.

use serde::{Deserialize, Serialize};

/// How an engine runs, and thereby who knows a network on which hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By itself: it knows its own networks only, and the daemons create them on the others.
    #[default]
    Plain,
    /// With a cluster store of its own (`dockerd --cluster-store`, up to 20.10), in which engines share
    /// networks, addresses and names.
    Classic,
    /// As a member of a swarm, whose managers hand out networks and addresses, and which knows all names.
    Swarm,
}

impl Mode {
    /// The word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Classic => "classic",
            Self::Swarm => "swarm",
        }
    }
}

/// The scope that a driver answers to `GetCapabilities`, in libnetwork's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Networks belong to one engine.
    #[default]
    Local,
    /// Engines share networks by themselves.
    Global,
}

impl Scope {
    /// The word that Docker uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Global => "global",
        }
    }
}

/// What an engine says of how it runs (`GET /info`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum EngineMode {
    /// By itself.
    Plain,
    /// With a cluster store of its own.
    Classic {
        /// `ClusterStore`: its URL.
        store: String,
        /// `ClusterAdvertise`; empty: the engine shares networks and tells nobody of itself.
        advertise: String,
    },
    /// In a swarm.
    Swarm {
        /// `Swarm.LocalNodeState`: `active`, or `pending`, `locked`, `error` for one that cannot do all it should.
        state: String,
        /// `Swarm.ControlAvailable`: it is a manager.
        manager: bool,
    },
}

impl EngineMode {
    /// The mode alone.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Plain => Mode::Plain,
            Self::Classic { .. } => Mode::Classic,
            Self::Swarm { .. } => Mode::Swarm,
        }
    }

    fn why(&self) -> String {
        match self {
            Self::Plain => "the engine is in no swarm and has no cluster store of its own".to_owned(),
            Self::Classic { store, .. } => format!("the engine was started with --cluster-store {store}"),
            Self::Swarm { state, manager } => {
                let role = if *manager { "manager" } else { "worker" };
                let state = if state == "active" { String::new() } else { format!(" (state: {state})") };
                format!("the engine is a {role} of a swarm{state}")
            }
        }
    }
}

/// `--scope`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeChoice {
    /// Found from the engine.
    #[default]
    Auto,
    /// Always that one.
    Local,
    /// Always that one.
    Global,
}

impl ScopeChoice {
    /// The word that users give.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Local => "local",
            Self::Global => "global",
        }
    }
}

/// How this host stands to its engine: what the driver answers, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// `--scope`.
    pub choice: ScopeChoice,
    /// The daemon runs as a managed plugin. Swarms take no other for their networks.
    pub managed: bool,
    /// What the engine has said last, perhaps to an earlier run of the daemon; absent: it has never been asked.
    pub engine: Option<EngineMode>,
    /// The engine has said so since it was away last.
    pub confirmed: bool,
    /// The scope under which the engine has registered the driver; absent: it has not asked since it started.
    pub registered: Option<Scope>,
}

impl Role {
    /// A role that depends on no engine.
    pub fn fixed(scope: Scope) -> Self {
        let choice = match scope {
            Scope::Local => ScopeChoice::Local,
            Scope::Global => ScopeChoice::Global,
        };
        Self { choice, ..Self::default() }
    }

    /// The scope that follows from what is known now; absent: nothing is known.
    pub fn known_scope(&self) -> Option<Scope> {
        match (self.choice, &self.engine) {
            (ScopeChoice::Local, _) => Some(Scope::Local),
            (ScopeChoice::Global, _) => Some(Scope::Global),
            (ScopeChoice::Auto, engine) => engine.as_ref().map(|engine| match engine {
                EngineMode::Classic { .. } => Scope::Global,
                EngineMode::Swarm { .. } if self.managed => Scope::Global,
                EngineMode::Plain | EngineMode::Swarm { .. } => Scope::Local,
            }),
        }
    }

    /// The scope to answer now. An engine that was never heard of is taken for a plain one.
    pub fn scope(&self) -> Scope {
        self.known_scope().unwrap_or_default()
    }

    /// The scope by which the engine creates networks of this driver now: the one it has registered, or
    /// would register.
    pub fn effective_scope(&self) -> Option<Scope> {
        self.registered.or_else(|| self.known_scope())
    }

    /// Whether networks that every engine has for itself belong onto this host: its engine would make
    /// something else of them under the global scope.
    pub fn takes_plain_networks(&self) -> bool {
        self.effective_scope() == Some(Scope::Local)
    }

    /// How the engine runs, once that is known.
    pub fn mode(&self) -> Option<Mode> {
        self.engine.as_ref().map(EngineMode::mode)
    }

    /// The mode and where it is known from, for people.
    pub fn explanation(&self) -> String {
        let engine = match &self.engine {
            Some(engine) if self.confirmed => format!("{}: {}", engine.mode().as_str(), engine.why()),
            Some(engine) => {
                format!("{}: {} when it last answered", engine.mode().as_str(), engine.why())
            }
            None => "not known yet: the engine's API has not answered".to_owned(),
        };
        match self.choice {
            ScopeChoice::Auto => engine,
            asked => format!("{engine}; scope {0}: asked for by --scope {0}", asked.as_str()),
        }
    }

    /// What a person has to do about the mode, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let scope = self.scope();
        if let Some(registered) = self.registered.filter(|registered| *registered != scope) {
            let how = if self.managed {
                "'docker plugin disable -f' and 'docker plugin enable' of this plugin, or a restart of the engine,"
            } else {
                "a restart of the engine ('systemctl restart docker')"
            };
            problems.push(format!(
                "the engine has registered this driver with scope {}, and scope {} is right since it changed its mode: {how} makes it ask again; until then new networks get scope {}",
                registered.as_str(),
                scope.as_str(),
                registered.as_str()
            ));
        }
        match (&self.engine, scope) {
            (Some(EngineMode::Swarm { .. }), Scope::Local) if !self.managed => problems.push(
                "the engine is in a swarm, which takes no driver of this kind for its own networks: 'docker network create -d rs-overlay' makes one that is not the swarm's; for the swarm's networks install the managed plugin ('docker plugin install' or 'docker plugin create') on all its nodes"
                    .to_owned(),
            ),
            (Some(EngineMode::Swarm { .. }), Scope::Global) if !self.managed => problems.push(
                "--scope global on an engine in a swarm, which refuses every driver that is no managed plugin: no network can be created here; leave --scope out, and install the managed plugin for the swarm's networks"
                    .to_owned(),
            ),
            (Some(EngineMode::Plain), Scope::Global) => problems.push(
                "--scope global, and the engine shares its networks with nobody: each network stays on the host where it was created; leave --scope out"
                    .to_owned(),
            ),
            (Some(EngineMode::Classic { advertise, .. }), Scope::Global) if advertise.is_empty() => problems
                .push("the engine has a --cluster-store and no --cluster-advertise: give it one, or names of containers on other hosts may be missing".to_owned()),
            _ => {}
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classic() -> EngineMode {
        EngineMode::Classic { store: "consul://192.0.2.254:8500".into(), advertise: "192.0.2.1:2376".into() }
    }

    fn swarm(manager: bool) -> EngineMode {
        EngineMode::Swarm { state: "active".into(), manager }
    }

    fn role(choice: ScopeChoice, managed: bool, engine: Option<EngineMode>) -> Role {
        Role { choice, managed, confirmed: engine.is_some(), engine, registered: None }
    }

    #[test]
    fn the_scope_follows_from_the_engine_unless_it_is_asked_for() {
        use ScopeChoice::{Auto, Global, Local};
        for (choice, managed, engine, scope) in [
            (Auto, false, None, None),
            (Auto, false, Some(EngineMode::Plain), Some(Scope::Local)),
            (Auto, true, Some(EngineMode::Plain), Some(Scope::Local)),
            (Auto, false, Some(classic()), Some(Scope::Global)),
            (Auto, false, Some(swarm(true)), Some(Scope::Local)),
            (Auto, true, Some(swarm(false)), Some(Scope::Global)),
            (Local, false, Some(classic()), Some(Scope::Local)),
            (Global, false, None, Some(Scope::Global)),
        ] {
            let role = role(choice, managed, engine);
            assert_eq!(role.known_scope(), scope, "{role:?}");
            assert_eq!(role.takes_plain_networks(), scope == Some(Scope::Local), "{role:?}");
        }
    }

    #[test]
    fn the_explanation_says_where_the_mode_is_known_from() {
        let told = |choice, engine| role(choice, true, engine).explanation();
        assert_eq!(
            told(ScopeChoice::Auto, Some(classic())),
            "classic: the engine was started with --cluster-store consul://192.0.2.254:8500"
        );
        assert_eq!(told(ScopeChoice::Auto, Some(swarm(false))), "swarm: the engine is a worker of a swarm");
        assert!(told(ScopeChoice::Local, Some(EngineMode::Plain)).ends_with("asked for by --scope local"));
        assert!(told(ScopeChoice::Auto, None).starts_with("not known yet"));
    }

    #[test]
    fn whoever_changes_the_mode_is_told_what_to_do() {
        let mut changed = role(ScopeChoice::Auto, false, Some(classic()));
        changed.registered = Some(Scope::Local);
        assert!(changed.takes_plain_networks(), "the engine still makes networks of its own");
        let [problem] = &changed.problems()[..] else { panic!("{:?}", changed.problems()) };
        assert!(problem.contains("restart of the engine") && problem.contains("scope global is right"));
        changed.managed = true;
        assert!(changed.problems()[0].contains("docker plugin disable -f"));
        changed.registered = Some(Scope::Global);
        assert_eq!(changed.problems(), [""; 0]);
        let legacy = role(ScopeChoice::Auto, false, Some(swarm(true)));
        assert!(legacy.problems()[0].contains("managed plugin"));
    }
}
