//! Parts of DNS messages (RFC 1035, section 4).

/// The longest name, with the lengths of its labels and the root's.
const LONGEST_NAME: usize = 255;
/// The longest label.
const LONGEST_LABEL: usize = 63;
/// `IN`.
const INTERNET: u16 = 1;
/// Where the question's name begins, as a name of its own (section 4.1.4).
const QUESTION: u16 = 0xc00c;
/// `OPT`.
const OPTION: u16 = 41;

/// A number of two bytes.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// What comes after the name at `at`.
pub(super) fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

/// A name; `None` if it is too long, or has an empty label.
pub(super) fn name(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    for label in text.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return None;
        }
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= LONGEST_NAME).then_some(bytes)
}

/// A record with the question's name: 12 bytes and the data.
pub(super) fn record(message: &mut Vec<u8>, kind: u16, ttl: u32, data: &[u8]) -> Option<()> {
    let length = u16::try_from(data.len()).ok()?;
    for number in [QUESTION, kind, INTERNET] {
        message.extend(number.to_be_bytes());
    }
    message.extend(ttl.to_be_bytes());
    message.extend(length.to_be_bytes());
    message.extend(data);
    Some(())
}

/// The record of EDNS (RFC 6891, section 6.1.2) that says how large a datagram may be.
pub(super) fn option(payload: u16) -> Vec<u8> {
    let mut record = vec![0];
    record.extend(OPTION.to_be_bytes());
    record.extend(payload.to_be_bytes());
    record.extend([0; 6]);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_message_can_hold_are_none() {
        assert_eq!(name("a.bc").unwrap(), b"\x01a\x02bc\x00");
        assert!(name(&"a".repeat(63)).is_some());
        for bad in ["", ".", "a.", "a..b", &"a".repeat(64), &["a"; 128].join(".")] {
            assert_eq!(name(bad), None, "{bad}");
        }
        assert!(name(&["a"; 127].join(".")).is_some());
    }
}
