//! How records are written: JSON with a format version.

use serde::{Serialize, de::DeserializeOwned};
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
    let error = |detail| RecordError::new(key, detail);
    let mut value: Value = serde_json::from_str(text).map_err(|e| error(e.to_string()))?;
    let Value::Object(fields) = &mut value else { return Err(error("not an object".into())) };
    if fields.remove("format").is_none() {
        return Err(error("no format version".into()));
    }
    serde_json::from_value(value).map_err(|e| error(e.to_string()))
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
