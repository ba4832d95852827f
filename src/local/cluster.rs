//! Which cluster this host belongs to, in which incarnation its store was known last, and how far this host
//! has come in telling it what it has.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};

use super::{Binding, Local, LocalData, LocalError, files};
use crate::model::NetworkId;

/// The cluster as this host remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownCluster {
    /// Its id.
    pub id: String,
    /// The incarnation in which all that this host has is known to be in the store; absent: none yet.
    #[serde(default)]
    pub incarnation: Option<String>,
    /// How often its store had begun anew by then.
    #[serde(default)]
    pub turns: u64,
    /// It had only just been founded, and may turn out to be another one's emptied store.
    #[serde(default)]
    pub provisional: bool,
}

/// This host's mark as the store has it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Incarnation in which it was written.
    pub incarnation: String,
    /// The count of changes.
    pub tide: u64,
}

/// Where the store may have records of this host's endpoints and networks: nowhere else need anybody look for some
/// that are left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Incarnation of the store of which this is true.
    pub incarnation: String,
    /// The networks that they are of.
    pub networks: BTreeSet<NetworkId>,
}

/// How earlier releases wrote the cluster: its id alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Known(KnownCluster),
    Id(String),
}

pub(super) fn read_cluster(dir: &Path) -> Result<Option<KnownCluster>, LocalError> {
    let written = files::read::<Written>(&dir.join("cluster.json"))?;
    Ok(written.map(|written| match written {
        Written::Known(known) => known,
        Written::Id(id) => KnownCluster { id, incarnation: None, turns: 0, provisional: false },
    }))
}

pub(super) fn read_told(dir: &Path) -> Result<Option<Told>, LocalError> {
    files::read(&dir.join("mark.json"))
}

pub(super) fn read_trace(dir: &Path) -> Result<Option<Trace>, LocalError> {
    files::read(&dir.join("trace.json"))
}

/// The cluster that the host with state directory `dir` insists on, without taking the directory: for those
/// who only look. A host that has no networks takes whatever cluster it finds.
pub fn known_cluster(dir: &Path) -> Result<Option<KnownCluster>, LocalError> {
    let networks = dir.join("networks");
    let has_networks = networks.is_dir() && !files::read_all::<Binding>(&networks)?.is_empty();
    let known = if has_networks { read_cluster(dir)? } else { None };
    Ok(known.filter(|known| !known.provisional))
}

impl Local {
    /// Remembers the cluster, and that its store has all that this host has.
    pub fn set_cluster(&self, known: KnownCluster) -> Result<(), LocalError> {
        self.change(|data| {
            files::write(&self.dir.join("cluster.json"), &known, true)?;
            data.cluster = Some(known);
            Ok(())
        })
    }

    /// Remembers this host's mark, which the store has. Nobody has to be woken for that.
    pub fn set_told(&self, told: Told) -> Result<(), LocalError> {
        let mut data = self.lock();
        files::write(&self.dir.join("mark.json"), &told, true)?;
        data.told = Some(told);
        Ok(())
    }

    /// Remembers where the store may have records of this host. Written before the first record in a network, and with
    /// fewer networks only when the last one is gone. Nobody has to be woken for that.
    pub fn set_trace(&self, trace: Trace) -> Result<(), LocalError> {
        let mut data = self.lock();
        if data.trace.as_ref() != Some(&trace) {
            files::write(&self.dir.join("trace.json"), &trace, true)?;
            data.trace = Some(trace);
        }
        Ok(())
    }
}

impl LocalData {
    /// The incarnation of the store that this host has confirmed.
    pub fn store_incarnation(&self) -> Option<&str> {
        self.cluster.as_ref()?.incarnation.as_deref()
    }
}
