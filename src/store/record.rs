//! How records are written: JSON with a format version.

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

/// Version of the records that this release writes. A release reads its own version and any newer one
/// whose known fields still mean the same, and keeps the fields it does not know.
pub const FORMAT: u64 = 1;

/// A value in the store that is no record of ours.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store holds something unreadable under {key}: {detail}")]
pub struct RecordError {
    key: String,
    detail: String,
}

impl RecordError {
    /// The value under `key` is `detail`.
    pub fn new(key: &str, detail: String) -> Self {
        Self { key: key.to_owned(), detail }
    }
}

/// A record with its version, which is no part of what the record has of newer releases.
#[derive(Deserialize)]
struct Written<T> {
    #[serde(rename = "format")]
    _format: IgnoredAny,
    #[serde(flatten)]
    record: T,
}

/// The text of a record.
pub fn encode(record: &impl Serialize) -> String {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("format".to_owned(), FORMAT.into());
    }
    value.to_string()
}

/// The record in the text under `key`.
pub fn decode<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, RecordError> {
    let written: Written<T> =
        serde_json::from_str(text).map_err(|error| RecordError::new(key, error.to_string()))?;
    Ok(written.record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Meta;

    #[test]
    fn unknown_fields_survive_a_rewrite() {
        let text = r#"{"format":1,"cluster":"c","incarnation":"i","turns":0,"created_at":1,"colour":"red"}"#;
        let meta: Meta = decode("v1/meta", text).unwrap();
        let back: Value = serde_json::from_str(&encode(&meta)).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_is_no_record_is_an_error_that_names_the_key() {
        for text in ["", "1", "{}", "[]", r#"{"format":1}"#] {
            assert!(decode::<Meta>("v1/meta", text).unwrap_err().to_string().contains("v1/meta"));
        }
    }
}
