//! The HTTP client that the program's own clients begin with: of consul, of the engine and the daemon on their
//! sockets, of an embedded store on another daemon's. Nothing on the machine but its network decides what they do.

use std::error::Error;

/// A client that trusts nobody and asks no proxy; who speaks TLS adds the authorities. The machine's own are not even
/// looked for: where it has none, as in a managed plugin, that alone would fail.
pub fn builder() -> reqwest::ClientBuilder {
    install_tls();
    reqwest::Client::builder().tls_certs_only([]).no_proxy()
}

/// Makes ring the TLS provider of the process, which clients need also where they use local sockets alone.
pub fn install_tls() {
    // An error means that it has been done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What is behind an error's general words, the deepest last; the error itself comes first.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The last of them, in words.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_cause_is_told() {
        let deep = std::io::Error::other("no such socket");
        let error = anyhow::Error::new(deep).context("cannot connect").context("cannot ask");
        assert_eq!(root_cause(error.as_ref()), "no such socket");
        assert_eq!(causes(error.as_ref()).count(), 3);
    }

    #[test]
    fn a_client_can_be_made_and_made_again() {
        assert!(builder().build().is_ok());
        assert!(builder().build().is_ok());
    }
}
