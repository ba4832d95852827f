//! One sandbox of this host: its interceptor, from the moment in which the engine makes it to its end.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::Instant};
use tracing::{debug, info, warn};

use super::interceptor::{Interceptor, Names};
use crate::{backoff::Backoff, dataplane::interception::InterceptionError, model::NetworkId, names::Zone};

/// How often a sandbox that is about to appear is looked for. Engines up to 27 make its file after `Join`,
/// some 10 to 100 ms before the container's first process.
const SOON: Duration = Duration::from_millis(5);
/// For how long.
const FRESH: Duration = Duration::from_secs(5);
/// How often sandboxes are checked for being there still: an engine that crashed does not say `Leave`, and
/// our sockets would keep the namespace alive.
const CHECK: Duration = Duration::from_secs(1);

/// How an interceptor is opened; blocks.
pub(super) type Open = fn(&Path, Names) -> Result<Interceptor, InterceptionError>;

/// What all sandboxes share.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) zone: watch::Receiver<Arc<Zone>>,
    pub(super) epoch: Instant,
    pub(super) open: Open,
}

/// A sandbox that is to be served.
pub(super) struct Place {
    networks: watch::Sender<Arc<[NetworkId]>>,
    interceptor: Option<Interceptor>,
    since: Instant,
    retry: Backoff,
    look_at: Instant,
    complaint: Option<String>,
    /// Sockets that somebody else had closed, since this was told.
    reopened: u64,
}

impl Place {
    pub(super) fn new(networks: Arc<[NetworkId]>) -> Self {
        Self {
            networks: watch::channel(networks).0,
            interceptor: None,
            since: Instant::now(),
            retry: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            look_at: Instant::now(),
            complaint: None,
            reopened: 0,
        }
    }

    /// When to look next.
    pub(super) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// Why the sandbox is not served, if it should be.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Whether its queries are answered.
    pub(super) fn is_served(&self) -> bool {
        self.interceptor.is_some()
    }

    /// How often sockets that somebody else had closed were opened anew, since this was asked last.
    pub(super) fn take_reopened(&mut self) -> u64 {
        std::mem::take(&mut self.reopened)
    }

    /// Lets the sandbox see these networks from now on.
    pub(super) fn show(&self, networks: &Arc<[NetworkId]>) {
        self.networks.send_if_modified(|current| {
            let changed = **current != **networks;
            *current = networks.clone();
            changed
        });
    }

    /// Gives the sandbox's queries back to Docker. Answers whether they were ours.
    pub(super) async fn close(self) -> bool {
        let Some(interceptor) = self.interceptor else { return false };
        interceptor.close().await;
        true
    }

    /// Opens the interceptor if there is a sandbox without one, closes one whose sandbox is gone. The
    /// error: this kernel is not able to, in any sandbox.
    pub(super) async fn look(&mut self, path: &Path, common: &Common) -> Result<(), InterceptionError> {
        if let Some(mut interceptor) = self.interceptor.take() {
            let same = interceptor.serves(path).unwrap_or(false);
            if same && !interceptor.has_ended() {
                self.interceptor = Some(interceptor);
                self.look_at = Instant::now() + CHECK;
                return Ok(());
            }
            interceptor.close().await;
            if same {
                self.reopened += 1;
                info!(sandbox = %path.display(), "somebody else has closed a sandbox's DNS sockets; opening them anew");
            } else {
                info!(sandbox = %path.display(), "the sandbox is another one now");
            }
            self.since = Instant::now();
        }
        let names = Names {
            zone: common.zone.clone(),
            networks: self.networks.subscribe(),
            epoch: common.epoch.into_std(),
        };
        let opening = {
            let (path, open) = (path.to_owned(), common.open);
            spawn_blocking(move || open(&path, names)).await
        };
        let error = match opening {
            Ok(Ok(interceptor)) => {
                debug!(sandbox = %path.display(), after = ?self.since.elapsed(), "answers the sandbox's queries");
                self.interceptor = Some(interceptor);
                self.complaint = None;
                self.retry.reset();
                self.look_at = Instant::now() + CHECK;
                return Ok(());
            }
            Ok(Err(InterceptionError::Failed { source, .. })) if is_not_there(&source) => {
                let fresh = self.since.elapsed() < FRESH;
                self.look_at = Instant::now() + if fresh { SOON } else { self.retry.pause() };
                self.complaint = None;
                return Ok(());
            }
            Ok(Err(error @ InterceptionError::Unsupported(_))) => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.look_at = Instant::now() + self.retry.pause();
        if self.complaint.as_ref() != Some(&error) {
            warn!(sandbox = %path.display(), %error, "names of other hosts are not answered in a container, trying again");
            self.complaint = Some(error);
        }
        Ok(())
    }
}

/// No file yet, or one that nothing is mounted on yet, or a sandbox whose loopback is still down.
fn is_not_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput | io::ErrorKind::NetworkUnreachable
    )
}
