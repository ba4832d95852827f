//! The watches: which there are, and how what they tell comes here.

use std::collections::BTreeSet;

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Mirror, Source, Told, members::Members};
use crate::{local, store::keys, watched::Watched};

impl Mirror {
    pub(super) fn follow(
        &self,
        tasks: &mut JoinSet<()>,
        sender: &mpsc::Sender<Told>,
        source: Source,
        prefix: &str,
        cancel: CancellationToken,
    ) {
        let mut watch = self.store.watch(prefix);
        let sender = sender.clone();
        tasks.spawn(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return,
                    event = watch.next() => event,
                };
                let Some(event) = event else { return };
                if sender.send((source.clone(), cancel.clone(), event)).await.is_err() {
                    return;
                }
            }
        });
    }

    pub(super) fn follow_networks_in_use(
        &mut self,
        tasks: &mut JoinSet<()>,
        sender: &mpsc::Sender<Told>,
        cancel: &CancellationToken,
    ) -> bool {
        let wanted = self.local.read(local::LocalData::networks_in_use);
        let unwanted: BTreeSet<_> = self.members.keys().filter(|id| !wanted.contains(id)).cloned().collect();
        for id in &unwanted {
            if let Some((_, stop)) = self.members.remove(id) {
                stop.cancel();
            }
            self.troubles.remove(&Source::Endpoints(id.clone()));
        }
        for id in wanted {
            if !self.members.contains_key(&id) {
                let stop = cancel.child_token();
                let source = Source::Endpoints(id.clone());
                self.follow(tasks, sender, source, &keys::endpoints(&id), stop.clone());
                let known = self.snapshot.now().endpoints.get(&id).cloned().unwrap_or_default();
                self.members.insert(id.clone(), (Members::of(id, known), stop));
            }
        }
        !unwanted.is_empty()
    }
}
