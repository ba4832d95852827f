//! TLS and credentials, with certificates made by the `openssl` program.

mod certificates;

use rs_overlay::store::{Store, StoreError, Txn};
use serde_json::json;

use self::certificates::Certificates;
use crate::{
    servers::{Consul, Etcd, Server, answers, opened},
    suite::commit,
    watched::Watched,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_over_tls() {
    let Some(certificates) = Certificates::make() else { return };
    let arguments = |_: &std::path::Path| {
        vec![
            format!("--cert-file={}", certificates.path("server.pem")),
            format!("--key-file={}", certificates.path("server.key")),
            format!("--trusted-ca-file={}", certificates.path("ca.pem")),
            "--client-cert-auth".to_owned(),
        ]
    };
    let Some(server) = Etcd::with(arguments, "https") else { return };
    works_with_certificates_only(&server.url(), &certificates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_over_tls() {
    let Some(certificates) = Certificates::make() else { return };
    let config = |_: &std::path::Path, port: u16| {
        json!({
            "ports": {"https": port},
            "verify_incoming": true,
            "ca_file": certificates.path("ca.pem"),
            "cert_file": certificates.path("server.pem"),
            "key_file": certificates.path("server.key"),
        })
    };
    let Some(server) = Consul::with(config) else { return };
    works_with_certificates_only(&server.url(), &certificates).await;
}

async fn works_with_certificates_only(url: &str, certificates: &Certificates) {
    let store = opened(url, &certificates.options("ca.pem", Some("client"))).await;
    answers(&*store).await;
    commit(&*store, Txn::new().put("tls/a", "1")).await;
    let mut watched = Watched::new(store.watch("tls/"));
    watched.until("the listing", |known| known.len() == 1).await;
    commit(&*store, Txn::new().put("tls/b", "1")).await;
    watched.until("a change", |known| known.len() == 2).await;
    let strangers = [
        opened(url, &[]).await,
        opened(url, &certificates.options("ca.pem", None)).await,
        opened(url, &certificates.options("other-ca.pem", Some("client"))).await,
    ];
    for (n, stranger) in strangers.iter().enumerate() {
        let error = stranger.range("tls/").await.expect_err("a stranger may read");
        eprintln!("{n}: {error}");
        assert!(stranger.txn(Txn::new().put("tls/c", "1")).await.is_err(), "a stranger may write");
    }
    assert_eq!(store.range("tls/").await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_with_a_password() {
    let Some(mut server) = Etcd::start().await else { return };
    let open = server.store().await;
    let mut client =
        etcd_client::Client::connect([server.url().replace("etcd:", "http:")], None).await.unwrap();
    client.user_add("root", "right", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let options = |password: &str| {
        let file = directory.path().join(password);
        std::fs::write(&file, format!("{password}\n")).unwrap();
        ["kv.username=root".to_owned(), format!("kv.passwordfile={}", file.display())]
    };
    let store = opened(&server.url(), &options("right")).await;
    commit(&*store, Txn::new().put("auth/a", "1")).await;
    let mut watched = Watched::new(store.watch("auth/"));
    watched.until("the listing", |known| known.len() == 1).await;

    refused(&*open).await;
    let text = refused(&*opened(&server.url(), &options("wrong-one")).await).await;
    assert!(!text.contains("wrong-one"), "{text}");

    // A restarted etcd knows none of the tokens it gave.
    server.process().kill();
    server.process().revive();
    commit(&*store, Txn::new().put("auth/b", "1")).await;
    watched.until("a change after the restart", |known| known.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_with_a_token() {
    const TOKEN: &str = "0d6b1b0c-52b4-4ac6-9d5f-6c1f3a1f7a11";
    let config = |_: &std::path::Path, port: u16| {
        json!({
            "ports": {"http": port},
            "primary_datacenter": "dc1",
            "acl": {"enabled": true, "default_policy": "deny", "tokens": {"master": TOKEN}},
        })
    };
    let Some(server) = Consul::with(config) else { return };
    let directory = tempfile::tempdir().unwrap();
    let options = |token: &str| {
        let file = directory.path().join(token);
        std::fs::write(&file, token).unwrap();
        [format!("kv.tokenfile={}", file.display())]
    };
    let store = opened(&server.url(), &options(TOKEN)).await;
    answers(&*store).await;
    let lease = loop {
        match store.lease(std::time::Duration::from_secs(30)).await {
            Ok(lease) => break lease,
            // The token exists some moments after the leader does.
            Err(error) => eprintln!("not yet: {error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    commit(&*store, Txn::new().put_leased("acl/a", "1", &lease)).await;
    let mut watched = Watched::new(store.watch("acl/"));
    watched.until("the listing", |known| known.len() == 1).await;
    let text = refused(&*opened(&server.url(), &options("11111111-2222-3333-4444-555555555555")).await).await;
    assert!(!text.contains("555555555555"), "{text}");
    let stranger = opened(&server.url(), &[]).await;
    assert!(matches!(stranger.txn(Txn::new().put("acl/b", "1")).await, Err(StoreError::Refused { .. })));
    assert!(
        matches!(
            stranger.txn(Txn::new().absent("acl/a").put("acl/a", "1")).await,
            Err(StoreError::Refused { .. })
        ),
        "a guard that may not be read is no conflict"
    );
}

/// What the store says to someone who may not.
async fn refused(store: &dyn Store) -> String {
    let range = store.range("auth/").await;
    let txn = store.txn(Txn::new().put("auth/c", "1")).await;
    assert!(matches!(range, Err(StoreError::Refused { .. })), "{range:?}");
    assert!(matches!(txn, Err(StoreError::Refused { .. })), "{txn:?}");
    format!("{range:?} {txn:?}")
}
