//! Whether an update that lies on disk may count: names, shapes, element type, finite values, and how far it went.
//!
//! Files are read in blocks of fixed size; nothing that a client says decides how much is held.

mod distance;
mod reason;

use std::{io, path::Path};

use fedlora_adapter::{Adapter, AdapterError, RoundPlan, UpdateFile};

use crate::{ReasonCode, UpdateMeta};

pub use distance::{DEFAULT_MAX_FACTOR_DISTANCE, Reach};

/// Why an update does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The stable code.
    pub code: ReasonCode,
    /// The same in words, with the evidence.
    pub detail: String,
}

impl Rejection {
    /// A rejection.
    pub fn new(code: ReasonCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Why a check did not end in a yes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The update is invalid.
    #[error("{}: {}", .0.code.as_str(), .0.detail)]
    Rejected(Rejection),
    /// What was kept of an earlier, broken call is not what was sent; nothing is known about the update.
    #[error("what had come in of the update is damaged")]
    Damaged,
    /// The file cannot be read; nothing is known about the update.
    #[error("an update cannot be read")]
    Io(#[from] io::Error),
}

/// Checks an update file against the round that it was made for.
///
/// `global` is the adapter that the round's tasks name; `max_distance` is in units of [`Reach`].
///
/// # Errors
/// The first thing that is wrong with the update, or that the file cannot be read. Blocks.
pub fn check_update(
    path: &Path,
    plan: &RoundPlan,
    global: &Adapter,
    meta: &UpdateMeta,
    max_distance: f64,
) -> Result<(), CheckError> {
    let update = UpdateFile::open_checked(path, global.spec(), plan.directive).map_err(sort)?;
    let checked = distance::check(&update, plan, global, Reach::new(plan, meta.steps), max_distance);
    if matches!(checked, Err(CheckError::Rejected(_))) {
        // One pass sees both faults; a value that is no number, wherever it is, comes before one that is far away.
        update.check().map_err(sort)?;
    }
    checked
}

/// Tells a bad file from a bad disk.
fn sort(error: AdapterError) -> CheckError {
    match reason::innermost(error) {
        AdapterError::Io { source, .. } => CheckError::Io(source),
        error => CheckError::Rejected(Rejection::from(&error)),
    }
}

#[cfg(test)]
mod tests;
