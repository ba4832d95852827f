//! `--cluster-store` and `--cluster-store-opt`.

use std::path::PathBuf;

use super::{
    ConfigError,
    closest::closest,
    sources::{Given, Sources},
};

/// Options of the cluster store, named as dockerd named them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// `kv.cacertfile`: certificates of the authorities that the store's certificate is checked against.
    pub ca_cert_file: Option<PathBuf>,
    /// `kv.certfile`: our own certificate; always together with the key.
    pub cert_file: Option<PathBuf>,
    /// `kv.keyfile`: its key.
    pub key_file: Option<PathBuf>,
    /// `kv.path`: prefix of all keys, without `/` at either end.
    pub path: Option<String>,
    /// `kv.username`: always together with the password's file.
    pub username: Option<String>,
    /// `kv.passwordfile`: a file that holds the password.
    pub password_file: Option<PathBuf>,
    /// `kv.tokenfile`: a file that holds Consul's ACL token.
    pub token_file: Option<PathBuf>,
}

const KNOWN: [&str; 7] = [
    "kv.cacertfile",
    "kv.certfile",
    "kv.keyfile",
    "kv.path",
    "kv.username",
    "kv.passwordfile",
    "kv.tokenfile",
];

const SCHEMES: &str = "give etcd://host:2379[,host:2379][/prefix], consul://host:8500[/prefix], \
                       embedded:///path or unix:///path.sock";

/// Whether `url` names a cluster store. The error says what is right.
pub fn check_store_url(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://") else { return Err(format!("no URL; {SCHEMES}")) };
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("no URL: it holds a blank or a character that is not ASCII; {SCHEMES}"));
    }
    match scheme {
        "etcd" | "consul" => {
            let (hosts, _prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if hosts.contains('@') {
                return Err(
                    "credentials do not belong into the URL; give --cluster-store-opt kv.username=NAME \
                            and kv.passwordfile=FILE"
                        .to_owned(),
                );
            }
            if scheme == "consul" && hosts.contains(',') {
                return Err("Consul is asked through one agent; give consul://host:8500[/prefix]".to_owned());
            }
            match hosts.split(',').find(|host| !is_host(host)) {
                Some(host) => Err(format!("{host:?} is no host or host:port; {SCHEMES}")),
                None => Ok(()),
            }
        }
        "embedded" | "unix" if rest.starts_with('/') && rest.len() > 1 => Ok(()),
        "embedded" | "unix" => Err(format!("{rest:?} is no absolute path; give {scheme}:///path")),
        _ => Err(format!("no store is called {scheme:?}; {SCHEMES}")),
    }
}

/// Reads all options. Each may be given once.
pub(super) fn options(sources: &Sources<'_>, flags: Vec<String>) -> Result<StoreOptions, ConfigError> {
    let Given { place, values } = sources.given("cluster-store-opt", flags);
    let mut options = StoreOptions::default();
    for text in values {
        set(&mut options, &text).map_err(|problem| ConfigError::value(&place, &text, problem))?;
    }
    if options.cert_file.is_some() != options.key_file.is_some() {
        return Err(ConfigError::place(place, "kv.certfile and kv.keyfile belong together; give both"));
    }
    if options.username.is_some() != options.password_file.is_some() {
        return Err(ConfigError::place(place, "kv.username and kv.passwordfile belong together; give both"));
    }
    Ok(options)
}

fn set(options: &mut StoreOptions, text: &str) -> Result<(), String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("give KEY=VALUE; known keys are {}", KNOWN.join(", ")));
    };
    if value.is_empty() || value.contains('\0') {
        return Err(format!("{key} has no value; give {key}=VALUE"));
    }
    let earlier = match key {
        "kv.cacertfile" => options.ca_cert_file.replace(value.into()).is_some(),
        "kv.certfile" => options.cert_file.replace(value.into()).is_some(),
        "kv.keyfile" => options.key_file.replace(value.into()).is_some(),
        "kv.passwordfile" => options.password_file.replace(value.into()).is_some(),
        "kv.tokenfile" => options.token_file.replace(value.into()).is_some(),
        "kv.username" => options.username.replace(value.to_owned()).is_some(),
        "kv.path" => options.path.replace(prefix(value)?).is_some(),
        _ => {
            let hint = closest(key, KNOWN).map(|name| format!(" did you mean {name}?")).unwrap_or_default();
            return Err(format!("no such option;{hint} known are {}", KNOWN.join(", ")));
        }
    };
    if earlier { Err(format!("{key} is given twice; give it once")) } else { Ok(()) }
}

fn prefix(value: &str) -> Result<String, String> {
    let path = value.trim_matches('/');
    if !path.is_empty() && path.bytes().all(|b| b.is_ascii_graphic()) && !path.contains("//") {
        Ok(path.to_owned())
    } else {
        Err("no prefix for keys; give for example kv.path=docker/overlay".to_owned())
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, tail)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match tail.strip_prefix(':') {
                None if tail.is_empty() => return true,
                None => return false,
                Some(port) => ("ipv6", port),
            }
        }
        None => match text.split_once(':') {
            Some(parts) => parts,
            None => (text, "1"),
        },
    };
    super::text::port(port).is_ok() && super::text::hostname(host).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_store_has_its_url() {
        for good in [
            "etcd://h1:2379",
            "etcd://h1:2379,192.0.2.1:2379,[2001:db8::1]:2379/some/prefix",
            "etcd://h1",
            "consul://h:8500/prefix",
            "embedded:///var/lib/rs-overlay/store",
            "unix:///run/rs-overlay/store.sock",
        ] {
            assert_eq!(check_store_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "h1:2379",
            "zk://h1:2181",
            "etcd://",
            "etcd://h1:2379,",
            "etcd://h1:0",
            "etcd://h1:99999",
            "etcd://a b",
            "etcd://joe:x@h1:2379",
            "etcd://[2001:db8::1",
            "etcd://[h1]:2379",
            "etcd://2001:db8::1",
            "consul:///prefix",
            "embedded://store",
            "embedded:///",
            "unix://",
            "etcd://[::1]x",
            "consul://h1:8500,h2:8500",
        ] {
            assert!(check_store_url(bad).is_err(), "{bad:?}");
        }
    }
}
