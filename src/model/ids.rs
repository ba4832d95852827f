//! Identifiers. Parsed at the edge, trusted inside: every one is safe as a part of a store key, a
//! link alias or a file name. A copy shares the text: records by the hundred thousand name the same networks and hosts.

use std::{cmp::Ordering, fmt, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} id {text:?} is not 1 to 128 letters, digits, '-', '_' or '.'")]
pub struct IdError {
    kind: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps `text`.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if is_id(&text) { Ok(Self(text.into())) } else { Err(IdError { kind: $kind, text }) }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 characters, as `docker` prints identifiers.
            pub fn short(&self) -> &str {
                self.0.get(..12).unwrap_or(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        // Copies of one id are met far more often than different ones that begin alike.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.short())
            }
        }
    };
}

id!(
    /// A network of the cluster: the Docker id that its first engine gave it (64 hex digits, in swarm
    /// mode 25 letters and digits). On other hosts the same network has other Docker ids.
    NetworkId,
    "network"
);
id!(
    /// One attachment of one container to one network, as the engine names it (64 hex digits).
    EndpointId,
    "endpoint"
);
id!(
    /// One host of the cluster: 16 hex digits drawn at its first start and kept in its state directory.
    NodeId,
    "node"
);

impl NetworkId {
    /// What stands in a network's place for the segment on which hosts ask for each other.
    pub fn of_probes() -> Self {
        Self("rs-overlay-probe".into())
    }
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text != "."
        && text != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_engine_are_taken_and_paths_are_not() {
        assert!(NetworkId::new("k5cwhbyf5dqtg5ilc3oy1xtlm").is_ok());
        assert!(NetworkId::new("a".repeat(64)).is_ok());
        for bad in ["", "..", "a/b", "a b", "é", &"a".repeat(129)] {
            assert!(NetworkId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn short_never_cuts_beyond_the_end() {
        assert_eq!(NodeId::new("abc").map(|id| id.short().to_owned()), Ok("abc".into()));
    }
}
