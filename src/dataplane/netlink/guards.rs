//! Who may speak from where: a port's part of the source rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{MutexGuard, PoisonError},
};

use nix::errno::Errno;

use super::Kernel;
use crate::{
    dataplane::{
        DataplaneError, Forged,
        sources::{Guarded, SourceRules},
    },
    plan::Port,
};

impl Kernel {
    /// Frames that were dropped because of who they said they were from: by the rules since our namespace was made,
    /// and by the programs since this kernel was opened.
    pub fn forged(&self) -> Result<Forged, DataplaneError> {
        self.rules().forged().map_err(|errno| unreadable(&errno))
    }

    pub(super) fn guarded(&self) -> Result<BTreeMap<String, Guarded>, DataplaneError> {
        self.rules().find().map_err(|errno| unreadable(&errno))
    }

    pub(super) fn guard(&self, name: &str, port: Port) -> Result<(), Errno> {
        self.rules().set(name, port.mac, port.sources)
    }

    pub(super) fn unguard(&self, name: &str) -> Result<(), Errno> {
        self.rules().remove(name)
    }

    /// Rules for links that are gone mean nothing to anybody.
    pub(super) fn sweep_guards(&self, links: &BTreeSet<String>) -> Result<(), Errno> {
        self.rules().sweep(|port| links.contains(port))
    }

    fn rules(&self) -> MutexGuard<'_, SourceRules> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(errno: &Errno) -> DataplaneError {
    DataplaneError::Refused { what: "reading the source rules".into(), detail: errno.to_string() }
}
