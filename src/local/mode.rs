//! How this host's engine ran when it last said so: engines activate plugins at their start, before their
//! API answers anybody.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Local, LocalError, files};
use crate::model::{EngineMode, Scope};

const FILE: &str = "mode.json";

/// What is remembered of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownMode {
    /// What it said of itself.
    #[serde(default)]
    pub engine: Option<EngineMode>,
    /// The scope that it was answered when it asked last.
    #[serde(default)]
    pub registered: Option<Scope>,
    /// The boot in which that was: no engine survives the next.
    #[serde(default)]
    pub boot: String,
}

impl Local {
    /// What an earlier run has left. A file that cannot be read is as good as none.
    pub fn known_mode(&self) -> KnownMode {
        let known: KnownMode = read(&self.dir).unwrap_or_default();
        let registered = known.registered.filter(|_| known.boot == self.boot);
        KnownMode { registered, boot: self.boot.clone(), ..known }
    }

    /// Leaves it for the next run.
    pub fn set_known_mode(
        &self,
        engine: Option<EngineMode>,
        registered: Option<Scope>,
    ) -> Result<(), LocalError> {
        let known = KnownMode { engine, registered, boot: self.boot.clone() };
        files::write(&self.dir.join(FILE), &known, false)
    }
}

fn read(dir: &Path) -> Option<KnownMode> {
    files::read(&dir.join(FILE)).ok().flatten()
}
