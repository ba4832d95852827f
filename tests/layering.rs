//! Who may see whom: the crate's layers, which external crates belong to which of them, and what the pure
//! modules must not know of.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod layering {
    pub(crate) mod rules;
    pub(crate) mod source;
}

use std::path::Path;

use layering::{
    rules::{MAY_SEE, all_rules},
    source::{Source, sources},
};

fn tree() -> Vec<Source> {
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// What `code`, as the file `file`, is told.
fn complaints(file: &str, code: &str) -> Vec<String> {
    all_rules(&Source::new(file, &format!("//! A file.\n{code}")))
}

#[test]
fn every_file_keeps_to_its_layer() {
    let complaints: Vec<_> = tree().iter().flat_map(all_rules).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    // Whatever sees nothing that is left can be taken away; what cannot be taken away goes in circles.
    let mut left: Vec<_> = MAY_SEE.to_vec();
    loop {
        let names: Vec<_> = left.iter().map(|(name, _)| *name).collect();
        let before = left.len();
        left.retain(|(_, seen)| seen.iter().any(|path| names.contains(&path.split("::").next().unwrap())));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "these see each other in circles: {left:?}");
}

#[test]
fn the_table_knows_no_module_that_is_gone() {
    let tree = tree();
    for (module, _) in MAY_SEE {
        assert!(tree.iter().any(|source| source.modules[0] == *module), "src has no module {module}");
    }
}

#[test]
fn each_rule_finds_what_it_is_for() {
    for (file, code, told) in [
        ("model/x.rs", "use crate::plan::Op;", "src/model/x.rs:2: model must not see crate::plan"),
        ("plan.rs", "\nfn f() { crate::ipam::g() }", "src/plan.rs:3: plan must not see crate::ipam"),
        ("plan/x.rs", "use super::super::ipam;", "plan must not see crate::ipam"),
        ("ipam/x.rs", "use crate::{model::A, plan::{B, C}};", "ipam must not see crate::plan"),
        ("driver/x.rs", "use crate::wire::Empty;", "driver must not see crate::wire"),
        (
            "driver/x.rs",
            "use crate::{dataplane::{names, netlink}};",
            "driver must not see crate::dataplane::netlink",
        ),
        (
            "http/x.rs",
            "use crate::store::StoreError as E;\nuse crate::store::Store;",
            ":3: http must not see",
        ),
        ("store/x.rs", "use crate::cli::run;", "store must not see crate::cli"),
        ("nowhere.rs", "use crate::model::A;", "nowhere has no row in the table"),
        ("model/x.rs", "use tokio::sync::watch;", "tokio does not belong into model/x.rs"),
        ("ipam.rs", "fn f() { tracing::info!(\"x\") }", "tracing does not belong into ipam.rs"),
        ("wire/x.rs", "use axum::Json;", "axum does not belong into wire/x.rs"),
        ("engine/x.rs", "use netlink_sys::Socket;", "netlink_sys does not belong into engine/x.rs"),
        ("store/x.rs", "use nix::{fcntl, sched::setns};", "nix::sched does not belong into store/x.rs"),
        ("driver/x.rs", "use bollard::Docker;", "bollard does not belong into driver/x.rs"),
        ("engine/x.rs", "use reqwest::Client;", "reqwest does not belong into engine/x.rs"),
        ("cli/x.rs", "use reqwest::Client;", "reqwest does not belong into cli/x.rs"),
        ("plan/x.rs", "fn f() -> f64 { rand::random() }", "rand does not belong into plan/x.rs"),
        ("ipam/x.rs", "use std::time::Instant;", "std::time::Instant has no place in a pure module"),
        ("plan/x.rs", "use std::{fmt, fs::File};", "std::fs::File has no place in a pure module"),
        ("model/x.rs", "async fn f() {}", "async has no place in a pure module"),
        ("driver/x.rs", "fn f() { std::time::SystemTime::now(); }", "SystemTime belongs into"),
        ("dataplane/x.rs", "fn f() { unsafe { g() } }", "unsafe belongs into"),
        ("dataplane/raw.rs", "fn f() { setns(a, b) }", "setns belongs into"),
        (
            "reconcile/x.rs",
            "async fn f() {\n    tokio::select! {\n        () = g() => {}\n    }\n}",
            "src/reconcile/x.rs:3: select! draws",
        ),
        ("driver/x.rs", "fn f() -> u64 { rand::random() }", "rand does not belong into driver/x.rs"),
        ("model/x.rs", &"\n".repeat(400), "has 401 lines"),
    ] {
        let complaints = complaints(file, code);
        assert!(complaints.iter().any(|c| c.contains(told)), "{file}: {code:?} was told {complaints:?}");
    }
    assert!(all_rules(&Source::new("model/x.rs", "struct A;\n"))[0].contains("begins with no //! line"));
}

#[test]
fn what_is_no_code_is_no_sight() {
    for code in [
        "// use crate::plan::Op;",
        "fn f() -> &'static str { \"crate::plan\" }",
        "fn f() -> &'static str { r#\"say \"crate::plan\" twice\"# }",
        "fn f<'a>(c: &'a char) -> bool { *c == '\"' || *c == '\\'' } // crate::plan \"",
        "use std::fmt;\n\n#[cfg(test)]\nmod tests {\n    use crate::plan::Op;\n}",
        "use super::{network::Network, *};\nuse super::plan;",
    ] {
        assert_eq!(complaints("model/deep/x.rs", code), [""; 0], "{code}");
    }
}
