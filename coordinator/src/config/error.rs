//! What can be wrong with a configuration.

use std::path::PathBuf;

use fedlora_aggregation::AggregationError;

use crate::RunError;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// An override that is not `key=value`.
    #[error("--set {text:?}: expected key=value, for example --set lora.r=4")]
    Override {
        /// The override.
        text: String,
    },
    /// An override goes through a key that is not a table.
    #[error("--set {text:?}: {key} is not a table")]
    NotATable {
        /// The override.
        text: String,
        /// The key in the way.
        key: String,
    },
    /// An override takes away what is not there.
    #[error("--set {text:?} removes a key that the file does not have")]
    NothingToRemove {
        /// The override.
        text: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key}{}", nearest.as_ref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or a missing key.
    #[error("{0}")]
    Value(String),
    /// The method: its name, its parameters, or an adapter kind that it cannot serve.
    #[error("method")]
    Method(#[from] AggregationError),
    /// Settings under which no round can succeed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A value out of range.
    #[error("{key} {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// What it must be.
        reason: String,
    },
}

impl ConfigError {
    /// A value out of range.
    pub fn invalid(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), reason: reason.into() }
    }
}
