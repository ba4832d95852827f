//! What differs, and what was left behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How kernel, plan, store, engine and a host's own state differ from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// What differs, and still did a moment later.
    pub differences: Vec<DifferenceRow>,
    /// What could not be compared and why, a sentence each.
    pub unknown: Vec<String>,
    /// How much was compared: each thing with its number.
    pub compared: BTreeMap<String, u32>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceRow {
    /// What it lies between: `kernel`, `container`, `store`, `copy` or `engine`.
    pub area: String,
    /// What it is about.
    pub object: String,
    /// How that should be.
    pub expected: String,
    /// How it is.
    pub found: String,
}

/// Has a host collect what was left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcOrder {
    /// Only say what would be collected.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Each thing.
    pub rows: Vec<GcRow>,
    /// What could not be looked at and why, a sentence each.
    pub unknown: Vec<String>,
}

/// One thing that was left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRow {
    /// What kind of thing it is.
    pub kind: String,
    /// Which one.
    pub object: String,
    /// Why nobody needs it.
    pub why: String,
    /// What has become of it: `collected`, `would be collected`, or why it stays.
    pub outcome: String,
    /// It should be gone and is not.
    #[serde(default)]
    pub failed: bool,
}
