//! Which way packets go, and the memory that finding out takes for a moment.

use std::sync::PoisonError;

use tracing::info;

use super::Kernel;
use crate::{
    dataplane::{
        Changed, DataplaneError,
        fast_path::FastPath,
        raw::{give_memory_back, keep_little_memory},
    },
    model::FastPathMode,
};

/// How packets go, and why so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPath {
    /// Known unicast goes past the bridges.
    pub fast: bool,
    /// The reason, for people.
    pub because: String,
}

impl Kernel {
    /// How packets go.
    pub fn data_path(&self) -> DataPath {
        self.data_path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads the programs that take packets past the bridges, if that is wanted and they do here what they should,
    /// and has whoever listens for changes look again. Takes some tens of milliseconds, in which all goes by the
    /// bridges. An error, with `On`, changes nothing.
    pub async fn choose_path(&self, mode: FastPathMode) -> Result<(), DataplaneError> {
        let loaded = match mode {
            FastPathMode::Off => Err("--fast-path off".to_owned()),
            _ => match Self::try_fast_path().await {
                Ok(()) => FastPath::load(),
                Err(error) if mode == FastPathMode::On => return Err(error),
                Err(error) => Err(error.to_string()),
            },
        };
        let data_path = match &loaded {
            Ok(_) => {
                DataPath { fast: true, because: "this kernel's programs pass frames past the bridges".into() }
            }
            Err(because) => DataPath { fast: false, because: because.clone() },
        };
        info!(fast = data_path.fast, because = %data_path.because, "chose the way of containers' packets");
        *self.fast_path_lock() = loaded.ok();
        give_memory_back();
        *self.data_path.lock().unwrap_or_else(PoisonError::into_inner) = data_path;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|listener| {
            // A full channel already says "look again".
            listener
                .upgrade()
                .is_some_and(|listener| listener.try_send(Changed).is_ok() || !listener.is_closed())
        });
        Ok(())
    }

    /// Has this process keep little memory that it does not use.
    pub fn keep_little_memory() {
        keep_little_memory();
    }

    /// Gives back to the system what was needed for a moment only.
    pub fn give_memory_back() {
        give_memory_back();
    }
}
