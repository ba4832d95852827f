//! The rules, each a row in a table.

use super::source::{Named, Source};

/// Our modules, each with what it may see besides itself; a path lets a part be seen alone. Everything in
/// the first rows is pure: no I/O, no clock, no chance, no async.
pub(crate) const MAY_SEE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("plan", &["model"]),
    ("ipam", &["model"]),
    ("names", &["model"]),
    ("jury", &["model"]),
    ("wire", &[]),
    // Of the store it knows the layout, and of what people are shown the rows.
    ("audit", &["admin", "model", "plan", "store::keys", "store::record"]),
    // Small tools.
    ("admin", &[]),
    ("backoff", &["chance"]),
    ("clock", &[]),
    ("chance", &[]),
    ("http_client", &[]),
    ("lockfile", &[]),
    ("watched", &[]),
    // The edges: store, kernel, engine, files.
    ("store", &["model", "backoff", "http_client", "watched"]),
    ("dataplane", &["model", "plan", "lockfile", "watched"]),
    ("engine", &["model", "backoff", "chance", "http_client"]),
    ("local", &["model", "clock", "lockfile"]),
    // Settings are checked by those who understand them.
    ("config", &["model", "ipam", "store::options", "store::url"]),
    ("telemetry", &["config"]),
    (
        "dns",
        &["model", "names", "local", "backoff", "dataplane::namespace", "dataplane::interception", "watched"],
    ),
    // What joins the edges. Calls read what the reconciler has achieved, and never the other way round; of
    // the kernel they know only how a link is named.
    ("member", &["model", "jury", "store", "local", "clock", "chance", "backoff", "watched"]),
    (
        "reconcile",
        &[
            "model",
            "plan",
            "ipam",
            "jury",
            "store",
            "dataplane",
            "engine",
            "local",
            "clock",
            "chance",
            "backoff",
            "watched",
        ],
    ),
    (
        "driver",
        &[
            "model",
            "plan",
            "ipam",
            "store",
            "dataplane::names",
            "local",
            "clock",
            "chance",
            "reconcile",
            "watched",
        ],
    ),
    ("http", &["clock", "wire", "model", "driver", "admin", "store::StoreError", "telemetry::call_span"]),
    (
        "daemon",
        &[
            "admin",
            "audit",
            "backoff",
            "chance",
            "clock",
            "config",
            "dataplane",
            "dns",
            "driver",
            "engine",
            "http",
            "ipam",
            "jury",
            "local",
            "member",
            "model",
            "names",
            "plan",
            "reconcile",
            "store",
            "watched",
        ],
    ),
    ("cli", &["admin", "clock", "config", "daemon", "http_client", "telemetry"]),
    // `main` is a crate of its own and sees `rs_overlay::cli`; `lib` only lists the modules.
    ("main", &[]),
    ("lib", &[]),
];

/// What a simulation runs, and has to be able to run again in just the same way.
const REPLAYED: [&str; 3] = ["member", "reconcile", "driver"];

const PURE: [&str; 7] = ["model", "plan", "ipam", "names", "jury", "wire", "audit"];

/// What a pure module may take from outside.
const PURE_CRATES: [&str; 5] = ["std", "serde", "serde_json", "ipnet", "thiserror"];

/// What a pure module must not take from the standard library.
const IMPURE: [&str; 10] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::sync",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::TcpStream",
];

/// Paths that belong to some files only, named by the beginning of their place below `src/`.
const BELONGS: &[(&str, &[&str])] = &[
    ("aya", &["dataplane/fast_path"]),
    ("rtnetlink", &["dataplane/"]),
    ("netlink_packet_core", &["dataplane/"]),
    ("netlink_packet_route", &["dataplane/"]),
    ("netlink_proto", &["dataplane/"]),
    ("netlink_sys", &["dataplane/"]),
    ("pnet_base", &["dataplane/"]),
    ("pnet_packet", &["dataplane/"]),
    ("nix::sched", &["dataplane/namespace.rs"]),
    ("nix::mount", &["dataplane/namespace.rs"]),
    ("bollard", &["engine"]),
    ("etcd_client", &["store"]),
    ("hickory_proto", &["dns/"]),
    ("redb", &["store"]),
    ("reqwest", &["store", "http_client.rs", "cli/client.rs", "engine/info.rs"]),
    // The daemon serves what `http` has put together.
    ("axum", &["http", "store/embedded/serve.rs", "daemon"]),
    ("clap", &["cli", "config"]),
    ("comfy_table", &["cli/"]),
    ("toml", &["config"]),
    // What a simulation replays has one source of chance; names and leases are not part of it.
    ("rand", &["chance.rs", "dns/", "store/embedded/"]),
    ("tracing_subscriber", &["telemetry.rs"]),
];

/// Words that may stand in some files only.
const WORDS: &[(&str, &[&str])] = &[
    ("setns", &["dataplane/namespace.rs"]),
    ("unshare", &["dataplane/namespace.rs"]),
    ("unsafe", &["dataplane/raw.rs"]),
    // The engine is asked for events since a time of day.
    ("SystemTime", &["clock.rs", "engine/events.rs", "http/journal.rs"]),
];

/// Most lines that a file may have; 300 is what to aim at.
const MOST_LINES: usize = 400;

/// Everything that is wrong with a file, a line each: file, line, rule.
pub(crate) fn all_rules(source: &Source) -> Vec<String> {
    let mut complaints = shape(source);
    complaints.extend(directions(source));
    complaints.extend(purity(source));
    for named in &source.paths {
        complaints.extend(belonging(source, named, BELONGS, "does not belong into"));
    }
    for named in &source.words {
        let places = WORDS.iter().find(|(word, _)| *word == named.path).map(|(_, places)| *places);
        if let Some(places) = places.filter(|places| !places.contains(&source.file.as_str())) {
            complaints.push(told(
                source,
                named,
                &format!("{} belongs into {} alone", named.path, places.join(", ")),
            ));
        }
    }
    complaints
}

fn told(source: &Source, named: &Named, rule: &str) -> String {
    format!("src/{}:{}: {rule}", source.file, named.line)
}

/// Whether `path` is `beginning` or lies below it.
fn below(path: &str, beginning: &str) -> bool {
    path.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn shape(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if !source.text.starts_with("//!") {
        complaints.push(format!("src/{}:1: the file begins with no //! line", source.file));
    }
    let lines = source.text.lines().count();
    if lines > MOST_LINES {
        complaints
            .push(format!("src/{}:{lines}: the file has {lines} lines, more than {MOST_LINES}", source.file));
    }
    if REPLAYED.contains(&source.modules[0].as_str()) {
        let lines: Vec<_> = source.text.lines().collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.trim_end().ends_with("select! {")) {
            if lines.get(at + 1).is_none_or(|next| next.trim() != "biased;") {
                complaints.push(format!(
                    "src/{}:{}: select! draws a branch at random, which no simulation can replay: begin it with biased;",
                    source.file,
                    at + 1
                ));
            }
        }
    }
    complaints
}

fn directions(source: &Source) -> Vec<String> {
    let own = source.modules[0].as_str();
    let Some((_, seen)) = MAY_SEE.iter().find(|(module, _)| *module == own) else {
        return vec![format!(
            "src/{}:1: the module {own} has no row in the table of tests/layering/rules.rs",
            source.file
        )];
    };
    let mut complaints = Vec::new();
    for named in &source.paths {
        let Some(path) = named.path.strip_prefix("crate::") else { continue };
        if !below(path, own) && !seen.iter().any(|allowed| below(path, allowed)) {
            complaints.push(told(source, named, &format!("{own} must not see crate::{path}")));
        }
    }
    complaints
}

fn purity(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if !PURE.contains(&source.modules[0].as_str()) {
        return complaints;
    }
    for named in &source.paths {
        let first = named.path.split("::").next().unwrap_or_default();
        // Only crates of the manifest: any other beginning is a name of the file itself.
        if super::source::dependencies().contains(&first.to_owned()) && !PURE_CRATES.contains(&first) {
            complaints.push(told(source, named, &format!("{first} does not belong into {}", source.file)));
        }
        // What is shared and never changed is as pure as what is copied.
        if named.path != "std::sync::Arc" && IMPURE.iter().any(|impure| below(&named.path, impure)) {
            complaints.push(told(source, named, &format!("{} has no place in a pure module", named.path)));
        }
    }
    for named in source.words.iter().filter(|word| ["async", "await"].contains(&word.path.as_str())) {
        complaints.push(told(source, named, &format!("{} has no place in a pure module", named.path)));
    }
    complaints
}

fn belonging(source: &Source, named: &Named, table: &[(&str, &[&str])], rule: &str) -> Option<String> {
    let (thing, places) = table.iter().find(|(thing, _)| below(&named.path, thing))?;
    let at_home = places.iter().any(|place| {
        let rest = source.file.strip_prefix(place);
        rest.is_some_and(|rest| place.ends_with('/') || matches!(rest, "" | ".rs") || rest.starts_with('/'))
            || place.strip_suffix('/').is_some_and(|place| source.file == format!("{place}.rs"))
    });
    (!at_home).then(|| told(source, named, &format!("{thing} {rule} {}", source.file)))
}
