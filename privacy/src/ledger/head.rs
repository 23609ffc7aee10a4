//! The second file: how much of the ledger has been acknowledged.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Fingerprint, LedgerError, disk};

/// Where a ledger stands. Kept elsewhere, it shows later whether the ledger still contains what it contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LedgerHead {
    /// Number of lines.
    pub lines: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// Digest of the last line and, through it, of all.
    pub chain: Fingerprint,
}

fn path_of(ledger: &Path) -> PathBuf {
    disk::beside(ledger, ".head")
}

fn text(head: &LedgerHead) -> Result<String, LedgerError> {
    let json = serde_json::to_string(head).map_err(|source| LedgerError::Unwritable { source })?;
    Ok(json + "\n")
}

/// Replaces the head; durable when this returns.
pub(super) fn write(ledger: &Path, head: &LedgerHead) -> Result<(), LedgerError> {
    let path = path_of(ledger);
    disk::replace(&path, text(head)?.as_bytes()).map_err(LedgerError::io(&path))
}

/// The head, or None if there is no such file. Only the very bytes that this program writes are a head.
pub(super) fn read(ledger: &Path) -> Result<Option<LedgerHead>, LedgerError> {
    let path = path_of(ledger);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LedgerError::io(&path)(error)),
    };
    match serde_json::from_slice::<LedgerHead>(&bytes) {
        Ok(head) if text(&head)?.as_bytes() == bytes => Ok(Some(head)),
        _ => Err(LedgerError::HeadAltered { path }),
    }
}
