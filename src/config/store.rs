//! `--cluster-store` and `--cluster-store-opt`.

pub use crate::store::options::StoreOptions;

use super::{
    ConfigError,
    sources::{Given, Sources},
};
use crate::store::url::StoreUrl;

/// Whether `url` names a cluster store. The error says what is right.
pub fn check_store_url(url: &str) -> Result<(), String> {
    url.parse::<StoreUrl>().map(drop).map_err(|err| err.to_string())
}

/// Reads all options. Each may be given once.
pub(super) fn options(sources: &Sources<'_>, flags: Vec<String>) -> Result<StoreOptions, ConfigError> {
    let Given { place, values } = sources.given("cluster-store-opt", flags);
    StoreOptions::parse(&values).map_err(|err| ConfigError::value(place, values.join(" "), err.to_string()))
}
