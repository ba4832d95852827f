//! The `--cluster-store` address: where the store is and under which prefix our keys lie.

use std::{fmt, net::Ipv6Addr, path::PathBuf, str::FromStr};

/// Prefix of all keys in etcd and Consul when neither the URL nor `kv.path` gives one.
pub const DEFAULT_PREFIX: &str = "rs-overlay";

/// A server's host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address; an IPv6 address stands without brackets here.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Where the cluster store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `etcd://host:2379,host:2379[/prefix]`
    Etcd {
        /// One or more members.
        servers: Vec<Server>,
        /// Without slashes at its ends; it wins over `kv.path`.
        prefix: Option<String>,
    },
    /// `consul://host:8500[/prefix]`
    Consul {
        /// The agent.
        server: Server,
        /// Without slashes at its ends; it wins over `kv.path`.
        prefix: Option<String>,
    },
    /// `embedded:///path`: a file of this daemon, which it shares on the unix socket `path.sock`. For a
    /// directory the file is `path/store.redb`.
    Embedded {
        /// Absolute.
        path: PathBuf,
    },
    /// `unix:///path.sock`: the embedded store of another daemon of this machine.
    Unix {
        /// Absolute.
        path: PathBuf,
    },
}

/// An address that cannot be used. Holds no text from before an `@`, which may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cluster store address {url:?} cannot be used: {problem}; write it like {example}")]
pub struct StoreUrlError {
    url: String,
    problem: String,
    example: &'static str,
}

const ETCD: &str = "etcd://192.0.2.1:2379,192.0.2.2:2379/my-prefix";
const CONSUL: &str = "consul://192.0.2.1:8500/my-prefix";
const EMBEDDED: &str = "embedded:///var/lib/rs-overlay/store.redb";
const UNIX: &str = "unix:///var/lib/rs-overlay/store.redb.sock";

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(url: &str) -> Result<Self, StoreUrlError> {
        let fail = |problem: &str, example| StoreUrlError {
            url: without_credentials(url),
            problem: problem.to_owned(),
            example,
        };
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(fail("it has no kind of store (etcd, consul, embedded or unix) in front", ETCD));
        };
        match scheme {
            "etcd" => {
                let (hosts, prefix) = authority(rest).map_err(|problem| fail(problem, ETCD))?;
                let servers = hosts.split(',').map(|host| server(host, 2379)).collect::<Result<_, _>>();
                Ok(Self::Etcd { servers: servers.map_err(|problem| fail(problem, ETCD))?, prefix })
            }
            "consul" => {
                let (host, prefix) = authority(rest).map_err(|problem| fail(problem, CONSUL))?;
                if host.contains(',') {
                    return Err(fail("Consul takes one address, that of the agent of this host", CONSUL));
                }
                Ok(Self::Consul {
                    server: server(host, 8500).map_err(|problem| fail(problem, CONSUL))?,
                    prefix,
                })
            }
            "embedded" => Ok(Self::Embedded { path: path(rest).map_err(|problem| fail(problem, EMBEDDED))? }),
            "unix" => Ok(Self::Unix { path: path(rest).map_err(|problem| fail(problem, UNIX))? }),
            _ => Err(fail("the kind of store must be etcd, consul, embedded or unix", ETCD)),
        }
    }
}

/// A prefix in its plain form, or what is wrong with it.
pub(crate) fn prefix(text: &str) -> Result<String, &'static str> {
    let text = text.trim_matches('/');
    for part in text.split('/') {
        let good = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if part.is_empty() || part == "." || part == ".." || !good {
            return Err("the prefix must be words of ASCII letters, digits, - _ and . with / between them");
        }
    }
    Ok(text.to_owned())
}

fn authority(rest: &str) -> Result<(&str, Option<String>), &'static str> {
    if rest.contains('@') {
        return Err("it must not hold credentials (give them as --cluster-store-opt kv.username and \
                    kv.passwordfile, or kv.tokenfile)");
    }
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = if path.trim_matches('/').is_empty() { None } else { Some(prefix(path)?) };
    Ok((hosts, prefix))
}

fn server(text: &str, default_port: u16) -> Result<Server, &'static str> {
    const PORT: &str = "a port must be a number from 1 to 65535";
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("an IPv6 address needs its closing bracket")?;
        host.parse::<Ipv6Addr>().map_err(|_| "what stands in brackets is no IPv6 address")?;
        match port {
            "" => (host, None),
            _ => (host, Some(port.strip_prefix(':').ok_or("after a bracket comes a colon and the port")?)),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address must stand in brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if host.is_empty() || !host.bytes().all(good) {
            return Err("it lacks a host, or a host has characters that no host name has");
        }
        (host, port)
    };
    let port = match port {
        None => default_port,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0).ok_or(PORT)?
        }
        Some(_) => return Err(PORT),
    };
    Ok(Server { host: host.to_owned(), port })
}

fn path(rest: &str) -> Result<PathBuf, &'static str> {
    if !rest.starts_with('/') {
        return Err("the path must be absolute, so that three slashes follow the colon");
    }
    if rest.contains('\0') || rest.trim_matches('/').is_empty() {
        return Err("it lacks the path of a file");
    }
    Ok(PathBuf::from(rest))
}

fn without_credentials(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://...@{after}")
        }
        None => url.to_owned(),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self {
            Self::Etcd { servers, prefix } => {
                let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
                write!(f, "etcd://{}", servers.join(","))?;
                prefix
            }
            Self::Consul { server, prefix } => {
                write!(f, "consul://{server}")?;
                prefix
            }
            Self::Embedded { path } => return write!(f, "embedded://{}", path.display()),
            Self::Unix { path } => return write!(f, "unix://{}", path.display()),
        };
        prefix.as_ref().map_or(Ok(()), |prefix| write!(f, "/{prefix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<StoreUrl, StoreUrlError> {
        url.parse()
    }

    #[test]
    fn good_addresses_come_back_as_they_went_in() {
        for url in [
            "etcd://192.0.2.1:2379",
            "etcd://a.example:2379,[2001:db8::1]:23790/one/two",
            "consul://localhost:8500",
            "consul://[::1]:8501/p",
            "embedded:///var/lib/x/store.redb",
            "unix:///run/x.sock",
        ] {
            assert_eq!(parse(url).unwrap().to_string(), url);
        }
        assert_eq!(parse("etcd://h").unwrap().to_string(), "etcd://h:2379");
        assert_eq!(parse("consul://h//p/").unwrap().to_string(), "consul://h:8500/p");
    }

    #[test]
    fn bad_addresses_get_one_line_with_an_example() {
        for url in [
            "",
            "etcd",
            "etcd:/h",
            "http://h:1",
            "etcd://",
            "etcd://h:0",
            "etcd://h:99999",
            "etcd://h:+1",
            "etcd://h:",
            "etcd://h1,,h2",
            "etcd://2001:db8::1:2379",
            "etcd://[2001:db8::1",
            "etcd://[h]:1",
            "etcd://h/a b",
            "etcd://h/a/../b",
            "etcd://h/ä",
            "consul://a,b",
            "embedded://rel/path",
            "embedded://",
            "embedded:///",
            "unix://x.sock",
            "etcd://h?x=1",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains("write it like ") && !error.contains('\n'), "{url}: {error}");
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        let error = parse("etcd://root:hunter2@h:2379").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert!(error.to_string().contains("kv.passwordfile"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn what_parses_is_stable(url in "(etcd|consul|embedded|unix)://[]a-z0-9:.,/\\[@%-]{0,40}") {
            if let Ok(parsed) = parse(&url) {
                let text = parsed.to_string();
                proptest::prop_assert_eq!(parse(&text).unwrap(), parsed);
            }
        }

        #[test]
        fn no_text_makes_it_panic(url in "(etcd://|consul://|unix://|)\\PC*") {
            let _ = parse(&url);
        }
    }
}
