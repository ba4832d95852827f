//! Who may speak from where: a port's part of the source rules.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
};

use nix::errno::Errno;

use super::Kernel;
use crate::{
    dataplane::{
        DataplaneError, Forged,
        fast_path::FastPath,
        names::{Named, parse_link},
        sources::{Guarded, SourceRules},
    },
    plan::Port,
};

impl Kernel {
    /// Frames that were dropped because of who they said they were from: by the rules since our namespace was made,
    /// and by the programs since this kernel was opened.
    pub fn forged(&self) -> Result<Forged, DataplaneError> {
        let by_rules = self.rules().forged().map_err(unreadable)?;
        let by_programs = self.fast_path_lock().as_ref().map(FastPath::forged).transpose();
        let by_programs = by_programs
            .map_err(|detail| DataplaneError::Refused { what: "fast path".into(), detail })?
            .unwrap_or_default();
        Ok(Forged {
            mac: by_rules.mac.saturating_add(by_programs.mac),
            address: by_rules.address.saturating_add(by_programs.address),
        })
    }

    /// Rules and entries for links that are gone mean nothing to anybody: takes them away.
    pub(super) async fn sweep(&self) -> Result<(), DataplaneError> {
        let links = self.inside.links().await.map_err(|failure| failure.during("reading links"))?;
        let names = links.iter().map(|link| link.name.clone()).collect();
        self.rules().sweep(&names).map_err(unreadable)?;
        let networks = links.iter().filter_map(|link| match parse_link(&link.name) {
            Some(Named::Bridge(vni) | Named::Vxlan(vni)) => Some(vni),
            _ => None,
        });
        let networks = networks.collect();
        let swept = match self.fast_path_lock().as_mut() {
            Some(fast) => fast.sweep(&links.iter().map(|link| link.index).collect(), &networks),
            None => Ok(()),
        };
        swept.map_err(|detail| DataplaneError::Refused { what: "fast path".into(), detail })
    }

    pub(super) fn guarded(&self) -> Result<BTreeMap<String, Guarded>, DataplaneError> {
        self.rules().find().map_err(unreadable)
    }

    pub(super) fn guard(&self, name: &str, port: Port) -> Result<(), Errno> {
        self.rules().set(name, port.mac, port.sources)
    }

    pub(super) fn unguard(&self, name: &str) -> Result<(), Errno> {
        self.rules().remove(name)
    }

    fn rules(&self) -> MutexGuard<'_, SourceRules> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(errno: Errno) -> DataplaneError {
    DataplaneError::Refused { what: "reading the source rules".into(), detail: errno.to_string() }
}
