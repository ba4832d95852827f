//! From address and options to a store.

use std::{path::PathBuf, sync::Arc};

use super::{
    Store,
    address::Address,
    consul::Consul,
    embedded::{
        Embedded, EmbeddedError,
        serve::{Shared, socket_of},
    },
    etcd::{Etcd, Login},
    options::{self, StoreOptionError, StoreOptions},
    prefix::Prefix,
    remote::{Remote, chain},
    timeouts::Timeouts,
    url::{DEFAULT_PREFIX, StoreUrl},
};
use crate::http_client;

/// Name of the data file when the address of an embedded store is that of a directory.
const FILE_NAME: &str = "store.redb";

/// Why a store cannot be opened. A server that is away is no reason: etcd and Consul are connected to when
/// they are first used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option, or a file that it names.
    #[error(transparent)]
    Option(#[from] StoreOptionError),
    /// The file of an embedded store, or its socket.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// No client for it can be made.
    #[error("cannot make a client for the cluster store {store}: {detail}")]
    Client {
        /// Its address.
        store: String,
        /// What is wrong.
        detail: String,
    },
}

/// Opens the store at `url`. The prefix in the URL wins over `kv.path`, which wins over
/// [`DEFAULT_PREFIX`]. An embedded store has no prefix, and is shared on its socket while it is open.
pub async fn open(
    url: &StoreUrl,
    options: &StoreOptions,
    timeouts: Timeouts,
) -> Result<Arc<dyn Store>, OpenError> {
    refuse_foreign(url, options)?;
    let address = Address::new(url);
    let prefix = |of_url: &Option<String>| {
        Prefix::new(of_url.as_deref().or(options.path.as_deref()).unwrap_or(DEFAULT_PREFIX))
    };
    match url {
        StoreUrl::Etcd { servers, prefix: of_url } => {
            http_client::install_tls();
            let scheme = if options.tls() { "https" } else { "http" };
            let endpoints = servers.iter().map(|server| format!("{scheme}://{server}")).collect();
            let login = Login { tls: etcd_tls(options)?, user: user(options)? };
            Ok(Arc::new(Etcd::new(endpoints, login, prefix(of_url), address, timeouts)))
        }
        StoreUrl::Consul { server, prefix: of_url } => {
            let client = consul_client(options, timeouts, &address)?;
            let scheme = if options.tls() { "https" } else { "http" };
            let token = options.token_file.as_ref().map(|path| options::read_secret("kv.tokenfile", path));
            let base = format!("{scheme}://{server}");
            let consul =
                Consul::new(client, &base, token.transpose()?, prefix(of_url), address.clone(), timeouts);
            let consul = consul.map_err(|detail| OpenError::Client { store: address.to_string(), detail })?;
            Ok(Arc::new(consul))
        }
        StoreUrl::Embedded { path } => {
            let path = data_file(path.clone()).await;
            let store = Embedded::open(&path, timeouts).await?;
            Ok(Arc::new(Shared::start(store, &socket_of(&path))?))
        }
        StoreUrl::Unix { path } => {
            let remote = Remote::new(path, timeouts);
            let failed = |error| OpenError::Client { store: address.to_string(), detail: chain(error) };
            Ok(Arc::new(remote.map_err(failed)?))
        }
    }
}

/// The file of an embedded store whose address names `path`.
pub async fn data_file(path: PathBuf) -> PathBuf {
    match tokio::fs::metadata(&path).await {
        Ok(found) if found.is_dir() => path.join(FILE_NAME),
        _ => path,
    }
}

/// An option that has no effect is a misunderstanding, in the worst case about who may read the store.
fn refuse_foreign(url: &StoreUrl, options: &StoreOptions) -> Result<(), StoreOptionError> {
    let (kind, etcd, consul) = match url {
        StoreUrl::Etcd { .. } => ("etcd", true, false),
        StoreUrl::Consul { .. } => ("consul", false, true),
        StoreUrl::Embedded { .. } | StoreUrl::Unix { .. } => ("embedded", false, false),
    };
    let given = [
        ("kv.cacertfile", options.ca_cert_file.is_some(), etcd || consul),
        ("kv.path", options.path.is_some(), etcd || consul),
        ("kv.username", options.username.is_some(), etcd),
        ("kv.tokenfile", options.token_file.is_some(), consul),
    ];
    match given.iter().find(|(_, given, fits)| *given && !fits) {
        Some((option, ..)) => Err(StoreOptionError::Foreign { option, kind }),
        None => Ok(()),
    }
}

fn user(options: &StoreOptions) -> Result<Option<(String, String)>, StoreOptionError> {
    let Some((name, file)) = options.username.as_ref().zip(options.password_file.as_ref()) else {
        return Ok(None);
    };
    Ok(Some((name.clone(), options::read_secret("kv.passwordfile", file)?)))
}

/// The files of the TLS options, read and parsed so that a wrong file is told here and not as a failed
/// handshake.
struct Tls {
    authorities: Vec<reqwest::Certificate>,
    authorities_pem: Vec<u8>,
    own: Option<Own>,
}

/// Our certificate and its key.
struct Own {
    identity: reqwest::Identity,
    cert_pem: Vec<u8>,
    key_pem: Vec<u8>,
}

impl Tls {
    fn read(options: &StoreOptions) -> Result<Option<Self>, StoreOptionError> {
        let Some(path) = &options.ca_cert_file else { return Ok(None) };
        let content = |option, path: &PathBuf, problem| StoreOptionError::Content {
            option,
            path: path.clone(),
            problem,
        };
        let authorities_pem = options::read("kv.cacertfile", path)?;
        let authorities = reqwest::Certificate::from_pem_bundle(&authorities_pem)
            .map_err(|error| content("kv.cacertfile", path, chain(error)))?;
        if authorities.is_empty() {
            return Err(content("kv.cacertfile", path, "holds no certificate in PEM form".to_owned()));
        }
        let own = match options.cert_file.as_ref().zip(options.key_file.as_ref()) {
            None => None,
            Some((cert, key)) => {
                let cert_pem = options::read("kv.certfile", cert)?;
                let key_pem = options::read("kv.keyfile", key)?;
                let both = [&key_pem[..], b"\n", &cert_pem].concat();
                let identity = reqwest::Identity::from_pem(&both).map_err(|error| {
                    let problem = format!(
                        "and that of kv.keyfile are no certificate with its key in PEM form: {}",
                        chain(error)
                    );
                    content("kv.certfile", cert, problem)
                })?;
                Some(Own { identity, cert_pem, key_pem })
            }
        };
        Ok(Some(Self { authorities, authorities_pem, own }))
    }
}

fn etcd_tls(options: &StoreOptions) -> Result<Option<etcd_client::TlsOptions>, StoreOptionError> {
    let Some(Tls { authorities_pem, own, .. }) = Tls::read(options)? else { return Ok(None) };
    let authorities = etcd_client::Certificate::from_pem(authorities_pem);
    let tls = etcd_client::TlsOptions::new().ca_certificate(authorities);
    Ok(Some(match own {
        Some(Own { cert_pem, key_pem, .. }) => {
            tls.identity(etcd_client::Identity::from_pem(cert_pem, key_pem))
        }
        None => tls,
    }))
}

fn consul_client(
    options: &StoreOptions,
    timeouts: Timeouts,
    address: &Address,
) -> Result<reqwest::Client, OpenError> {
    let mut builder =
        http_client::builder().connect_timeout(timeouts.connect).redirect(reqwest::redirect::Policy::none());
    if let Some(Tls { authorities, own, .. }) = Tls::read(options)? {
        builder = builder.tls_certs_only(authorities).https_only(true);
        if let Some(Own { identity, .. }) = own {
            builder = builder.identity(identity);
        }
    }
    let failed = |error| OpenError::Client { store: address.to_string(), detail: chain(error) };
    builder.build().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn error(url: &str, options: &[&str]) -> String {
        let options = StoreOptions::parse(options).unwrap();
        let opened = open(&url.parse().unwrap(), &options, Timeouts::default()).await;
        opened.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn options_that_do_not_fit_are_refused() {
        assert!(error("etcd://h", &["kv.tokenfile=/t"]).await.contains("kv.tokenfile means nothing"));
        assert!(error("consul://h", &["kv.username=u", "kv.passwordfile=/p"]).await.contains("kv.username"));
        assert!(error("unix:///s", &["kv.path=p"]).await.contains("kv.path"));
    }

    #[tokio::test]
    async fn wrong_files_are_named_with_their_option() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        for url in ["etcd://h", "consul://h"] {
            let missing = error(url, &["kv.cacertfile=/nowhere/ca.pem"]).await;
            assert!(missing.contains("/nowhere/ca.pem") && missing.contains("kv.cacertfile"), "{missing}");
            let empty = error(url, &[&format!("kv.cacertfile={path}")]).await;
            assert!(empty.contains(&path) && empty.contains("no certificate"), "{empty}");
        }
        let empty = error("consul://h", &[&format!("kv.tokenfile={path}")]).await;
        assert!(empty.contains(&path) && empty.contains("is empty"), "{empty}");
    }

    #[tokio::test]
    async fn a_directory_holds_the_file_under_its_usual_name() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(data_file(directory.path().into()).await, directory.path().join("store.redb"));
        assert_eq!(data_file("/nowhere/x".into()).await, PathBuf::from("/nowhere/x"));
    }
}
