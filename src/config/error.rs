//! What is wrong with a setting, in one line.

use std::fmt;

/// A wrong setting: where it stands, its value, and what would be right. Always one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    value: Option<String>,
    problem: String,
}

impl ConfigError {
    /// `value`, found at `place` (a flag, a variable, a key of the file), is wrong. Credentials in it are left
    /// out.
    pub fn value(place: impl Into<String>, value: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), value: Some(without_credentials(&value.into())), problem: problem.into() }
    }

    /// `place` is wrong as a whole.
    pub fn place(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), value: None, problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.place))?;
        if let Some(value) = &self.value {
            write!(f, " {value:?}")?;
        }
        write!(f, ": {}", one_line(&self.problem))
    }
}

impl std::error::Error for ConfigError {}

/// Text from outside may hold anything; an error message may not.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A URL that was refused because it holds a password must not carry it into a log.
pub(super) fn without_credentials(value: &str) -> String {
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://***{}", &value[..scheme], &value[at..]),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_keeps_no_password() {
        let err = ConfigError::value("--cluster-store", "etcd://joe:geheim@h1:2379", "a\nb");
        assert_eq!(err.to_string(), "--cluster-store \"etcd://***@h1:2379\": a b");
    }
}
