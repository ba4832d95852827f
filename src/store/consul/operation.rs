//! A transaction in Consul's words, and Consul's answer in ours.

use crate::store::{Change, Guard, LeaseId, TXN_LIMIT, Txn, prefix::Prefix};

/// One operation of `/v1/txn`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Operation {
    #[serde(rename = "KV")]
    kv: Kv,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kv {
    verb: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

/// Why Consul did not commit: the body of its 409.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Rollback {
    pub(super) errors: Option<Vec<OperationError>>,
}

/// One operation that failed.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OperationError {
    pub(super) op_index: usize,
    pub(super) what: String,
}

/// What a rollback means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Conflict,
    LeaseEnded(LeaseId),
    Refused(String),
}

/// The operations in order: guards first, so that a failed one is known by its place.
pub(super) fn operations(txn: &Txn, prefix: &Prefix) -> Result<Vec<Operation>, String> {
    let mut operations = Vec::with_capacity(txn.len());
    let mut add = |verb, key: &str, value: Option<&String>, index, session| {
        let value = value.map(|value| base64_encode(value.as_bytes()));
        operations.push(Operation { kv: Kv { verb, key: prefix.add(key), value, index, session } });
    };
    for guard in &txn.guards {
        match guard {
            Guard::Absent(key) => add("check-not-exists", key, None, None, None),
            Guard::Unchanged(key, revision) => add("check-index", key, None, Some(revision.0), None),
        }
    }
    for change in &txn.changes {
        match change {
            Change::Put { key, value, lease: None } => add("set", key, Some(value), None, None),
            Change::Put { key, value, lease: Some(lease) } => {
                add("delete", key, None, None, None);
                add("lock", key, Some(value), None, Some(lease.0.clone()));
            }
            Change::Delete { key } => add("delete", key, None, None, None),
        }
    }
    if operations.len() > TXN_LIMIT {
        return Err(format!(
            "the transaction needs {} operations of Consul (a write with a lease needs two), {TXN_LIMIT} is \
             the most: split it",
            operations.len()
        ));
    }
    Ok(operations)
}

/// Tells a guard that did not hold from a session that is over and from a real refusal.
pub(super) fn verdict(txn: &Txn, rollback: &Rollback) -> Verdict {
    let errors = rollback.errors.as_deref().unwrap_or_default();
    let text = || errors.iter().map(|error| error.what.as_str()).collect::<Vec<_>>().join("; ");
    let forbidden = errors.iter().any(|error| error.what.contains("ermission denied"));
    if !forbidden && errors.iter().any(|error| error.op_index < txn.guards.len()) {
        return Verdict::Conflict;
    }
    if errors.iter().any(|error| error.what.contains("invalid session")) {
        let named = |lease: &&LeaseId| errors.iter().any(|error| error.what.contains(&lease.0));
        if let Some(lease) = txn.leases().find(named) {
            return Verdict::LeaseEnded(lease.clone());
        }
    }
    Verdict::Refused(text())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 of RFC 4648 section 4, which Consul wraps values in.
fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place > group.len() {
                text.push('=');
            } else {
                let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
                text.push(char::from(ALPHABET[digit]));
            }
        }
    }
    text
}

/// The bytes behind base64 text; `None` if it is none.
pub(super) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, Revision};

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648 section 10.
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64_encode(plain.as_bytes()), coded);
            assert_eq!(base64_decode(coded).unwrap(), plain.as_bytes());
        }
        for bad in ["A", "AAA", "====", "A===", "AA=A", "ä", "Zm9v!"] {
            assert_eq!(base64_decode(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn base64_comes_back(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            proptest::prop_assert_eq!(base64_decode(&base64_encode(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = base64_decode(&text);
            let _ = serde_json::from_str::<Rollback>(&text);
        }
    }

    #[test]
    fn guards_come_first_and_leases_cost_two() {
        let entry = Entry { key: "b".into(), value: String::new(), revision: Revision(7) };
        let lease = LeaseId("s".into());
        let txn = Txn::new().put("a", "f").put_leased("c", "x", &lease).absent("a").unchanged(&entry);
        let json = serde_json::to_value(operations(&txn, &Prefix::new("p")).unwrap()).unwrap();
        let expected = serde_json::json!([
            {"KV": {"Verb": "check-not-exists", "Key": "p/a"}},
            {"KV": {"Verb": "check-index", "Key": "p/b", "Index": 7}},
            {"KV": {"Verb": "set", "Key": "p/a", "Value": "Zg=="}},
            {"KV": {"Verb": "delete", "Key": "p/c"}},
            {"KV": {"Verb": "lock", "Key": "p/c", "Value": "eA==", "Session": "s"}},
        ]);
        assert_eq!(json, expected);
        let long = (0..33).fold(Txn::new(), |txn, n| txn.put_leased(format!("k{n}"), "", &lease));
        assert!(operations(&long, &Prefix::new("")).unwrap_err().contains("66 operations"));
    }

    #[test]
    fn rollbacks_are_told_apart() {
        let lease = LeaseId("1111".into());
        let txn = Txn::new().absent("a").put("a", "1").put_leased("b", "1", &lease);
        let answer = |op_index, what: &str| {
            let errors = Some(vec![OperationError { op_index, what: what.into() }]);
            verdict(&txn, &Rollback { errors })
        };
        assert_eq!(answer(0, "key \"a\" exists"), Verdict::Conflict);
        assert_eq!(answer(0, "Permission denied"), Verdict::Refused("Permission denied".into()));
        assert_eq!(answer(3, "invalid session \"1111\""), Verdict::LeaseEnded(lease.clone()));
        assert_eq!(answer(1, "value too large"), Verdict::Refused("value too large".into()));
        assert_eq!(verdict(&txn, &Rollback::default()), Verdict::Refused(String::new()));
    }
}
