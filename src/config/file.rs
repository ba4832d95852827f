//! The configuration file: TOML with the names of the flags as keys.

use std::collections::BTreeMap;

use toml::Value;

use super::{ConfigError, LISTS, SETTINGS, closest::closest};

/// What a file says: setting to its values, in the order in which they stand there.
pub(super) type FileValues = BTreeMap<&'static str, Vec<String>>;

/// Reads a file's text: what is right in it, and all that is not. Unknown keys are refused: a misspelt one
/// would otherwise be a setting that silently is not made.
pub(super) fn parse(text: &str) -> (FileValues, Vec<ConfigError>) {
    let mut values = FileValues::new();
    let mut errors = Vec::new();
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(err) => return (values, vec![syntax(text, &err)]),
    };
    for (key, value) in table {
        let known = SETTINGS.into_iter().find(|setting| *setting == key).ok_or_else(|| unknown(&key));
        match known.and_then(|setting| Ok((setting, scalars(setting, value)?))) {
            Ok((setting, scalars)) => drop(values.insert(setting, scalars)),
            Err(error) => errors.push(error),
        }
    }
    (values, errors)
}

fn scalars(setting: &'static str, value: Value) -> Result<Vec<String>, ConfigError> {
    match value {
        Value::Array(items) if LISTS.contains(&setting) => {
            items.into_iter().map(|item| scalar(setting, item)).collect()
        }
        other => Ok(vec![scalar(setting, other)?]),
    }
}

fn scalar(setting: &'static str, value: Value) -> Result<String, ConfigError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) if setting == "vxlan-port" => Ok(number.to_string()),
        other => {
            let right = match setting {
                "vxlan-port" => "give a number",
                list if LISTS.contains(&list) => "give an array of strings",
                _ => "give a string",
            };
            let shown = other.to_string();
            Err(ConfigError::value(
                place(setting),
                shown,
                format!("is of type {}; {right}", other.type_str()),
            ))
        }
    }
}

/// How a key of the file is named in a message.
pub(super) fn place(setting: &str) -> String {
    format!("configuration file, key {setting}")
}

fn unknown(key: &str) -> ConfigError {
    let hint = match closest(key, SETTINGS) {
        Some(name) => format!("no such setting; did you mean {name}?"),
        None => format!("no such setting; known are {}", SETTINGS.join(", ")),
    };
    ConfigError::place(place(key), hint)
}

fn syntax(text: &str, err: &toml::de::Error) -> ConfigError {
    let line =
        err.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let place =
        line.map_or("configuration file".to_owned(), |line| format!("configuration file, line {line}"));
    ConfigError::place(place, format!("no TOML: {}", err.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let (values, errors) = parse(text);
        errors.first().map_or_else(|| format!("accepted: {values:?}"), ToString::to_string)
    }

    #[test]
    fn lists_may_be_arrays_or_one_string() {
        let values = parse("default-addr-pool = ['a', 'b']\ncluster-store-opt = 'c'\nvxlan-port = 8472");
        let (values, errors) = values;
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(values["default-addr-pool"], ["a", "b"]);
        assert_eq!(values["cluster-store-opt"], ["c"]);
        assert_eq!(values["vxlan-port"], ["8472"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, want) in [
            (
                "cluster-stor = 'x'",
                "configuration file, key cluster-stor: no such setting; did you mean cluster-store?",
            ),
            ("scope = true", "configuration file, key scope \"true\": is of type boolean; give a string"),
            (
                "scope = ['local']",
                "configuration file, key scope \"[\\\"local\\\"]\": is of type array; give a string",
            ),
            (
                "vxlan-port = 1.5",
                "configuration file, key vxlan-port \"1.5\": is of type float; give a number",
            ),
        ] {
            assert_eq!(refusal(text), want);
        }
        assert!(refusal("quux = 1").contains("known are cluster-store, cluster-advertise,"));
        assert!(
            refusal("\n\nscope = \n").starts_with("configuration file, line 3: no TOML:"),
            "{}",
            refusal("\n\nscope = \n")
        );
        assert!(!refusal("scope = 'a'\nscope = 'b'").contains('\n'));
    }
}
