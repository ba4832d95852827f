//! What the kernel says when it refuses a netlink request.

use std::io;

use netlink_packet_core::ErrorMessage;
use nix::errno::Errno;

use crate::dataplane::DataplaneError;

/// Length of the request's header, which comes first in the error's payload (`NETLINK_CAP_ACK`).
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG`: the text of an extended acknowledgement.
const TEXT: u16 = 1;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The kernel's answer, and its own explanation if it gave one.
    Kernel { errno: Errno, text: Option<String> },
    /// No answer in time, or a broken connection.
    Silent,
}

impl Failure {
    /// Decodes an error message of the kernel.
    pub(super) fn from_message(message: &ErrorMessage) -> Self {
        let code = message.code.map_or(0, std::num::NonZeroI32::get);
        let text = message.header.get(HEADER..).and_then(extended_text);
        Self::Kernel { errno: Errno::from_raw(code.saturating_abs()), text }
    }

    /// An error of the socket itself.
    pub(super) fn from_io(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOBUFS) | None => Self::Silent,
            Some(errno) => Self::Kernel { errno, text: None },
        }
    }

    /// The kernel's error number, if it answered at all.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { errno, .. } => Some(*errno),
            Self::Silent => None,
        }
    }

    /// Says what was asked when this happened.
    pub(crate) fn during(self, what: impl Into<String>) -> DataplaneError {
        let what = what.into();
        match self {
            Self::Silent => DataplaneError::Silent { what },
            Self::Kernel { errno, text } => {
                let mut detail = match text {
                    Some(text) => format!("{} ({text})", errno.desc()),
                    None => errno.desc().to_owned(),
                };
                if errno == Errno::EPERM {
                    detail.push_str("; the daemon needs CAP_NET_ADMIN");
                }
                DataplaneError::Refused { what, detail }
            }
        }
    }
}

/// Finds the text among the attributes of an extended acknowledgement.
fn extended_text(mut attributes: &[u8]) -> Option<String> {
    while let [length_low, length_high, kind_low, kind_high, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([length_low, length_high]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([kind_low, kind_high]) == TEXT {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_text_is_found_behind_other_attributes() {
        let bytes = [attribute(2, &[1, 2, 3, 4, 5]), attribute(TEXT, b"Invalid scope\0")].concat();
        assert_eq!(extended_text(&bytes).as_deref(), Some("Invalid scope"));
    }

    #[test]
    fn broken_attributes_give_no_text() {
        assert_eq!(extended_text(&[]), None);
        for length in [0_u16, 3, 200] {
            let mut bytes = attribute(TEXT, b"x");
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(extended_text(&bytes), None, "{length}");
        }
    }
}
