//! The `--cluster-store-opt` settings: names as Docker's own `--cluster-store-opt` had them.

use std::path::{Path, PathBuf};

/// Names of all options, for help texts.
pub const KNOWN: [&str; 7] = [
    "kv.cacertfile",
    "kv.certfile",
    "kv.keyfile",
    "kv.passwordfile",
    "kv.path",
    "kv.tokenfile",
    "kv.username",
];

/// Settings of a cluster store. Secrets stay in their files until the store is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// `kv.cacertfile`: who signs the store's certificate (PEM). Turns TLS on.
    pub ca_cert_file: Option<PathBuf>,
    /// `kv.certfile`: our certificate (PEM).
    pub cert_file: Option<PathBuf>,
    /// `kv.keyfile`: its key (PEM).
    pub key_file: Option<PathBuf>,
    /// `kv.path`: prefix of all keys. One in the URL wins.
    pub path: Option<String>,
    /// `kv.username`: etcd user.
    pub username: Option<String>,
    /// `kv.passwordfile`: file with the password of that user.
    pub password_file: Option<PathBuf>,
    /// `kv.tokenfile`: file with a Consul ACL token.
    pub token_file: Option<PathBuf>,
}

/// Why an option cannot be used. Never holds what a secret file holds.
#[derive(Debug, thiserror::Error)]
pub enum StoreOptionError {
    /// Not `KEY=VALUE`.
    #[error("cluster store option {0:?} must be written as KEY=VALUE")]
    NoValue(String),
    /// A name we do not know.
    #[error("cluster store option {0:?} is not known; known are {known}", known = KNOWN.join(", "))]
    Unknown(String),
    /// Given twice.
    #[error("cluster store option {0} is given twice")]
    Twice(&'static str),
    /// One option that needs another.
    #[error("cluster store option {given} needs {missing} as well{why}")]
    Needs {
        /// The one that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
        /// Further explanation, or nothing.
        why: &'static str,
    },
    /// An option of another kind of store.
    #[error("cluster store option {option} means nothing to a store of kind {kind}; leave it out")]
    Foreign {
        /// The option.
        option: &'static str,
        /// Kind of the store.
        kind: &'static str,
    },
    /// A prefix that no store could hold.
    #[error("cluster store option kv.path: {0}")]
    Path(&'static str),
    /// The file cannot be read.
    #[error("cannot read {path:?}, the file of cluster store option {option}: {source}")]
    File {
        /// The option.
        option: &'static str,
        /// Its value.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file can be read, but is not what it should be.
    #[error("{path:?}, the file of cluster store option {option}, {problem}")]
    Content {
        /// The option.
        option: &'static str,
        /// Its value.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl StoreOptions {
    /// Reads options as they stand on the command line, each `KEY=VALUE`.
    pub fn parse<T: AsRef<str>>(options: impl IntoIterator<Item = T>) -> Result<Self, StoreOptionError> {
        let mut parsed = Self::default();
        for option in options {
            let option = option.as_ref();
            let Some((key, value)) = option.split_once('=').filter(|(_, value)| !value.is_empty()) else {
                return Err(StoreOptionError::NoValue(option.to_owned()));
            };
            parsed.set(key, value)?;
        }
        parsed.check()?;
        Ok(parsed)
    }

    /// Whether the store is to be spoken to over TLS.
    pub fn tls(&self) -> bool {
        self.ca_cert_file.is_some()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), StoreOptionError> {
        fn once<T>(place: &mut Option<T>, key: &'static str, value: T) -> Result<(), StoreOptionError> {
            if place.replace(value).is_some() { Err(StoreOptionError::Twice(key)) } else { Ok(()) }
        }
        match key {
            "kv.cacertfile" => once(&mut self.ca_cert_file, "kv.cacertfile", value.into()),
            "kv.certfile" => once(&mut self.cert_file, "kv.certfile", value.into()),
            "kv.keyfile" => once(&mut self.key_file, "kv.keyfile", value.into()),
            "kv.passwordfile" => once(&mut self.password_file, "kv.passwordfile", value.into()),
            "kv.path" => {
                let path = super::url::prefix(value).map_err(StoreOptionError::Path)?;
                once(&mut self.path, "kv.path", path)
            }
            "kv.tokenfile" => once(&mut self.token_file, "kv.tokenfile", value.into()),
            "kv.username" => once(&mut self.username, "kv.username", value.to_owned()),
            _ => Err(StoreOptionError::Unknown(key.to_owned())),
        }
    }

    fn check(&self) -> Result<(), StoreOptionError> {
        let needs = |given, missing, why| Err(StoreOptionError::Needs { given, missing, why });
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => return needs("kv.certfile", "kv.keyfile", ""),
            (None, Some(_)) => return needs("kv.keyfile", "kv.certfile", ""),
            (Some(_), Some(_)) if self.ca_cert_file.is_none() => {
                let why = ": without it nothing proves who the store is (for a public authority name the \
                           system's bundle)";
                return needs("kv.certfile", "kv.cacertfile", why);
            }
            _ => {}
        }
        match (&self.username, &self.password_file) {
            (Some(_), None) => needs("kv.username", "kv.passwordfile", ""),
            (None, Some(_)) => needs("kv.passwordfile", "kv.username", ""),
            _ => Ok(()),
        }
    }
}

/// The content of a file that an option names.
pub(crate) fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, StoreOptionError> {
    std::fs::read(path).map_err(|source| StoreOptionError::File { option, path: path.to_owned(), source })
}

/// The one line of a file that holds a secret.
pub(crate) fn read_secret(option: &'static str, path: &Path) -> Result<String, StoreOptionError> {
    let content = |problem: &str| StoreOptionError::Content {
        option,
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let text = String::from_utf8(read(option, path)?).map_err(|_| content("is not UTF-8 text"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(content("is empty"));
    }
    if secret.chars().any(char::is_control) {
        return Err(content("must hold one line only"));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(options: &[&str]) -> String {
        StoreOptions::parse(options).unwrap_err().to_string()
    }

    #[test]
    fn all_known_options_are_taken() {
        let options = StoreOptions::parse([
            "kv.cacertfile=/ca.pem",
            "kv.certfile=/cert.pem",
            "kv.keyfile=/key=1.pem",
            "kv.path=/docker/net/",
            "kv.username=u",
            "kv.passwordfile=/pw",
            "kv.tokenfile=/token",
        ])
        .unwrap();
        assert!(options.tls());
        assert_eq!(options.path.as_deref(), Some("docker/net"));
        assert_eq!(options.key_file, Some("/key=1.pem".into()));
        assert_eq!(StoreOptions::parse::<&str>([]).unwrap(), StoreOptions::default());
    }

    #[test]
    fn mistakes_are_named() {
        assert!(error(&["kv.cert=/x"]).contains("known are kv.cacertfile, kv.certfile"));
        assert!(error(&["kv.path"]).contains("KEY=VALUE"));
        assert!(error(&["kv.path="]).contains("KEY=VALUE"));
        assert!(error(&["kv.certfile=/x"]).contains("needs kv.keyfile"));
        assert!(error(&["kv.keyfile=/x"]).contains("needs kv.certfile"));
        assert!(error(&["kv.keyfile=/x", "kv.certfile=/y"]).contains("needs kv.cacertfile"));
        assert!(error(&["kv.username=u"]).contains("needs kv.passwordfile"));
        assert!(error(&["kv.path=a", "kv.path=b"]).contains("twice"));
        assert!(error(&["kv.path=a/../b"]).contains("kv.path"));
    }

    #[test]
    fn a_missing_file_is_named_with_its_option() {
        let error = read_secret("kv.tokenfile", Path::new("/nowhere/token")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/token") && error.contains("kv.tokenfile"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(texts in proptest::collection::vec(".*", 0..4)) {
            let _ = StoreOptions::parse(&texts);
        }

        #[test]
        fn no_value_makes_it_panic(key in proptest::sample::select(&KNOWN[..]), value in ".*") {
            let _ = StoreOptions::parse([format!("{key}={value}")]);
        }
    }
}
