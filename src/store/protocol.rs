//! What goes over the unix socket of an embedded store: one JSON request and answer per call, and for a
//! watch one JSON event per line. Both ends are this program, possibly of different versions.

use std::time::Duration;

use super::{Entry, LeaseId, Outcome, StoreError, Txn, WatchEvent, address::Address};

/// Longest line of a watch; a value of the store is far smaller.
pub(crate) const LONGEST_LINE: usize = 4 << 20;

/// Longest request: 64 operations of the longest values fit.
pub(crate) const LONGEST_REQUEST: usize = 64 << 20;

/// How often a watch with nothing to tell sends an empty line, so that the other end knows it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// A call, named by its path.
pub(crate) trait Call: serde::Serialize + serde::de::DeserializeOwned + Send + 'static {
    /// Path of the call.
    const PATH: &'static str;
    /// What it answers.
    type Answer: serde::Serialize + serde::de::DeserializeOwned + Send;
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* } -> $answer:ty = $path:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }

        impl Call for $name {
            const PATH: &'static str = $path;
            type Answer = $answer;
        }
    )*};
}

calls! {
    /// `Store::range`.
    RangeCall { prefix: String } -> Vec<Entry> = "/v1/range";
    /// `Store::txn`.
    TxnCall { txn: Txn } -> Outcome = "/v1/txn";
    /// `Store::lease`.
    LeaseCall { ttl_ms: u64 } -> LeaseId = "/v1/lease";
    /// `Store::keep_alive`.
    KeepAliveCall { lease: LeaseId } -> () = "/v1/keepalive";
    /// `Store::revoke`.
    RevokeCall { lease: LeaseId } -> () = "/v1/revoke";
}

/// Path of the watch, and its request; the answer is a stream of lines.
pub(crate) const WATCH: &str = "/v1/watch";

/// `Store::watch`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct WatchCall {
    pub(crate) prefix: String,
}

/// A [`StoreError`] on its way; the receiver puts its own name of the store in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "error", content = "detail", rename_all = "snake_case")]
pub(crate) enum Failure {
    Unavailable(String),
    Unknown(String),
    Refused(String),
    LeaseEnded(LeaseId),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { detail, .. } => Self::Unavailable(detail),
            StoreError::Unknown { detail, .. } => Self::Unknown(detail),
            // A back end never says that it is unsettled.
            StoreError::Refused { detail, .. } | StoreError::Unsettled { detail, .. } => {
                Self::Refused(detail)
            }
            StoreError::LeaseEnded(lease) => Self::LeaseEnded(lease),
        }
    }
}

impl Failure {
    pub(crate) fn into_error(self, address: &Address) -> StoreError {
        match self {
            Self::Unavailable(detail) => address.unavailable(detail),
            Self::Unknown(detail) => address.unknown(detail),
            Self::Refused(detail) => address.refused(detail),
            Self::LeaseEnded(lease) => StoreError::LeaseEnded(lease),
        }
    }
}

/// Puts the pieces of a watch's answer together into events.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes the next piece and gives the events that are now complete, or why this is no watch.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<Vec<WatchEvent>, String> {
        let mut events = Vec::new();
        let mut piece = piece;
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&piece[..end], &piece[end + 1..]);
            self.keep(line)?;
            piece = after;
            if !self.rest.is_empty() {
                let event = serde_json::from_slice(&self.rest);
                events.push(event.map_err(|error| format!("a line of its watch is no event: {error}"))?);
                self.rest.clear();
            }
        }
        self.keep(piece)?;
        Ok(events)
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), String> {
        if self.rest.len() + part.len() > LONGEST_LINE {
            return Err(format!("a line of its watch is longer than {LONGEST_LINE} bytes"));
        }
        self.rest.extend_from_slice(part);
        Ok(())
    }
}

/// An event as a line.
pub(crate) fn line(event: &WatchEvent) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::Revision;

    fn event() -> impl Strategy<Value = WatchEvent> {
        prop_oneof![
            Just(WatchEvent::Init),
            Just(WatchEvent::InitDone),
            ".*".prop_map(WatchEvent::Delete),
            ("[a-z/]+", ".*", any::<u64>()).prop_map(|(key, value, revision)| {
                WatchEvent::Put(Entry { key, value, revision: Revision(revision) })
            }),
        ]
    }

    proptest! {
        #[test]
        fn events_survive_any_cutting(events in prop::collection::vec(event(), 0..8), cut in 1_usize..40) {
            let mut bytes = vec![b'\n'];
            for event in &events {
                bytes.extend(line(event).unwrap());
            }
            let mut lines = Lines::default();
            let seen: Vec<_> = bytes.chunks(cut).flat_map(|piece| lines.take(piece).unwrap()).collect();
            prop_assert_eq!(seen, events);
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let mut lines = Lines::default();
            for piece in &pieces {
                let _ = lines.take(piece);
                let _ = serde_json::from_slice::<TxnCall>(piece);
                let _ = serde_json::from_slice::<Failure>(piece);
                let _ = serde_json::from_slice::<LeaseCall>(piece);
            }
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; LONGEST_LINE / 2];
        assert!(lines.take(&piece).is_ok());
        assert!(lines.take(&piece).is_ok());
        assert!(lines.take(b"x").is_err());
    }
}
