//! What can be wrong with a configuration.

use std::path::PathBuf;

use crate::ServerError;

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
    #[error("--set {text:?}: expected key=value, for example --set threads=4")]
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
    /// A key that does not exist.
    #[error("unknown key {key}{}", nearest.as_ref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A section that is not there.
    #[error("missing section [{section}]")]
    MissingSection {
        /// The section.
        section: &'static str,
    },
    /// A value of the wrong type, or a missing key.
    #[error("{0}")]
    Value(String),
    /// The coordinator's address.
    #[error("server")]
    Server(#[from] ServerError),
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
    pub(crate) fn invalid(key: &str, reason: &str) -> Self {
        Self::Invalid { key: key.to_owned(), reason: reason.to_owned() }
    }
}
