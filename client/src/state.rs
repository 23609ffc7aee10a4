//! A client's state directory: who holds it, and what lies where in it.
//!
//! ```text
//! lock                                   held by the process that uses the directory
//! <coordinator>/blobs/<digest>           the last global adapter, and a download under way
//! <coordinator>/outbox/…                 the update that has no receipt yet
//! <coordinator>/run-<id>-<spec>/kept/…   factors and heads that never travel
//! <coordinator>/run-<id>-<spec>/data.json   the data files that the run has seen
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use fedlora_adapter::Digest;

use crate::RunInfo;

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process uses it.
    #[error("{path} is used by another process; give each client a state directory of its own")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be made or locked.
    #[error("cannot use {path} as state directory")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A state directory that this process alone uses, until the value is dropped.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    // The lock goes with the handle, also when the process is killed.
    _lock: File,
}

impl StateDir {
    /// Makes the directory if need be and locks it. `coordinator` is what tells this coordinator from others: its
    /// certificate authority, or its address.
    ///
    /// # Errors
    /// A directory that another process holds, or that cannot be written.
    pub fn open(path: &Path, coordinator: &[u8]) -> Result<Self, StateError> {
        let unusable = |source| StateError::Unusable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unusable)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        Ok(Self { root: path.join(Digest::of(coordinator).to_string()), _lock: lock })
    }

    /// What belongs to this coordinator.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where updates without a receipt lie.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    /// Where downloads lie.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }
}

/// The folder of a run, by its number and its adapter: a coordinator that lost its state may use a number again.
pub(crate) fn run_folder(root: &Path, run: &RunInfo) -> PathBuf {
    root.join(format!("run-{}-{}", run.id, run.spec.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_do_not_share_a_state_directory() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let first = StateDir::open(place.path(), b"here").expect("free");
        let error = StateDir::open(place.path(), b"here").expect_err("held").to_string();
        assert!(error.ends_with("is used by another process; give each client a state directory of its own"));
        drop(first);
        StateDir::open(place.path(), b"here").expect("free again");
    }

    #[test]
    fn coordinators_have_places_of_their_own() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let first = StateDir::open(place.path(), b"here").expect("free").root().to_owned();
        assert_ne!(StateDir::open(place.path(), b"there").expect("free").root(), first);
    }
}
