//! What an error of etcd means: whether anything can have happened, and who has to do something about it.

use std::{error::Error as _, io};

use etcd_client::Error;

use crate::store::{StoreError, address::Address, remote::causes_below};

/// Classes of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request did not leave this host, or reached a member that had no leader to pass it to.
    NotSent,
    /// It was sent, and what came of it is not known.
    Lost,
    /// etcd looked at it and said no.
    Refused,
    /// It names a lease that does not exist.
    NotFound,
    /// It names a revision that history no longer holds.
    Compacted,
}

/// An error with its class.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) kind: Kind,
    pub(super) detail: String,
}

impl Failed {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// As the error of a call that changes nothing.
    pub(super) fn of_read(self, address: &Address) -> StoreError {
        match self.kind {
            Kind::NotSent | Kind::Lost | Kind::Compacted => address.unavailable(self.detail),
            Kind::Refused | Kind::NotFound => address.refused(self.detail),
        }
    }

    /// As the error of a call that may have changed something.
    pub(super) fn of_change(self, address: &Address) -> StoreError {
        match self.kind {
            Kind::NotSent => address.unavailable(self.detail),
            Kind::Lost => address.unknown(self.detail),
            Kind::Refused | Kind::NotFound | Kind::Compacted => address.refused(self.detail),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let Error::GRpcStatus(status) = &error else {
            let kind = match &error {
                Error::LeaseKeepAliveError(text) if text.contains("not found") => Kind::NotFound,
                Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
                    Kind::Refused
                }
                _ => Kind::Lost,
            };
            return Self::new(kind, error.to_string());
        };
        let kind = kind(i32::from(status.code()), status.message(), refused_connection(status));
        let detail = match status.source() {
            Some(source) => causes_below(status.message(), source),
            None => status.message().to_owned(),
        };
        Self { kind, detail }
    }
}

/// `code` is the number of a gRPC status (doc/statuscodes.md of gRPC); `unsent` when the connection never
/// came up.
fn kind(code: i32, message: &str, unsent: bool) -> Kind {
    const NOT_FOUND: i32 = 5;
    const OUT_OF_RANGE: i32 = 11;
    // Invalid argument, already exists, permission denied, resource exhausted (no space, quota, too many
    // requests), failed precondition, out of range, unimplemented, unauthenticated.
    const REFUSED: [i32; 8] = [3, 6, 7, 8, 9, 11, 12, 16];
    match code {
        _ if unsent => Kind::NotSent,
        OUT_OF_RANGE if message.contains("compacted") => Kind::Compacted,
        NOT_FOUND => Kind::NotFound,
        code if REFUSED.contains(&code) => Kind::Refused,
        // `with_require_leader` makes a member without a leader say so before it proposes anything.
        _ if message.contains("no leader") => Kind::NotSent,
        _ => Kind::Lost,
    }
}

/// Whether the connection itself failed, as opposed to a request on one that was up.
fn refused_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let refused = matches!(
            io,
            Some(
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            )
        );
        // Private types of tonic and hyper-util, which only their texts tell apart.
        let text = cause.to_string();
        refused || text.contains("connect error") || text.contains("dns error") || text == "tcp connect error"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        assert_eq!(kind(14, "transport error", true), Kind::NotSent);
        assert_eq!(kind(14, "etcdserver: no leader", false), Kind::NotSent);
        assert_eq!(kind(14, "etcdserver: leader changed", false), Kind::Lost);
        assert_eq!(kind(2, "transport error", false), Kind::Lost);
        assert_eq!(kind(8, "etcdserver: mvcc: database space exceeded", false), Kind::Refused);
        assert_eq!(kind(7, "etcdserver: permission denied", false), Kind::Refused);
        assert_eq!(kind(5, "etcdserver: requested lease not found", false), Kind::NotFound);
        assert_eq!(
            kind(11, "etcdserver: mvcc: required revision has been compacted", false),
            Kind::Compacted
        );
    }
}
