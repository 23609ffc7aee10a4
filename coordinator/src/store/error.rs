//! What can go wrong with what must not be forgotten.

use std::{io, path::PathBuf};

use fedlora_adapter::{AdapterError, Digest};

/// Why something could not be kept, or not be found again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or a folder cannot be read, written or made durable; a full disk among others.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The database cannot be opened, read or written.
    #[error("{path}: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: Box<redb::Error>,
    },
    /// A database of another version of this program.
    #[error("the state has layout {found}, this program reads layout {expected}")]
    Schema {
        /// What this program reads.
        expected: u32,
        /// What was found.
        found: u32,
    },
    /// A record that this program cannot have written.
    #[error("record {key} of table {table} cannot be read")]
    Record {
        /// The table.
        table: &'static str,
        /// The key in hexadecimal.
        key: String,
        /// What the reader says.
        #[source]
        source: serde_json::Error,
    },
    /// A value that cannot be written down.
    #[error("a record for table {table} cannot be written")]
    Unwritable {
        /// The table.
        table: &'static str,
        /// What the writer says.
        #[source]
        source: serde_json::Error,
    },
    /// A record names another one that is not there.
    #[error("{what} is missing from the state")]
    Missing {
        /// What is missing.
        what: String,
    },
    /// A record and the state that follows from the events disagree.
    #[error("the state contradicts itself: {0}")]
    Contradiction(String),
    /// A file that a record names is not there.
    #[error("{path} is missing: content {digest}")]
    MissingBlob {
        /// Where it should be.
        path: PathBuf,
        /// Its digest.
        digest: Digest,
    },
    /// An adapter's file does not hold what its record says.
    #[error("{path}")]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: Box<AdapterError>,
    },
}

impl StoreError {
    /// An I/O error at a path, in the form of `map_err`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
