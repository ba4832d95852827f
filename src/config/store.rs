//! `--cluster-store` and `--cluster-store-opt`.

pub use crate::store::options::StoreOptions;

use super::{
    ConfigError,
    sources::{Given, Sources},
};
use crate::store::{options::KNOWN, url::StoreUrl};

/// Whether `url` names a cluster store. The error says what is right.
pub fn check_store_url(url: &str) -> Result<(), String> {
    url.parse::<StoreUrl>().map(drop).map_err(|err| err.to_string())
}

/// Reads all options. Each may be given once.
pub(super) fn options(sources: &Sources<'_>, flags: Vec<String>) -> StoreOptions {
    let Given { place, values, .. } = sources.given("cluster-store-opt", flags);
    let parsed = StoreOptions::parse(&values).map_err(|err| {
        let shown: Vec<_> = values.iter().map(|option| shown_option(option)).collect();
        ConfigError::value(place, shown.join(" "), err.to_string())
    });
    sources.keep(parsed).unwrap_or_default()
}

/// An option as it may be shown: what is no option of ours may well be a password that somebody took to
/// belong there.
pub(super) fn shown_option(option: &str) -> String {
    match option.split_once('=') {
        Some((key, _)) if KNOWN.contains(&key) => option.to_owned(),
        Some((key, value)) if !value.is_empty() => format!("{key}=***"),
        _ => option.to_owned(),
    }
}
