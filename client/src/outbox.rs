//! The update that is on its way: written down before it is sent, removed with its receipt.
//!
//! A client that is stopped or killed while it sends goes on with the same bytes when it comes back. Nothing here waits
//! for the disk: what a power failure takes is trained again, from the state before, to the same update.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use fedlora_adapter::{AdapterError, Digest, RoundId, encode};
use serde::{Deserialize, Serialize};

use crate::{
    Submission,
    files::{self, FileError},
};

/// The one file that says what is on its way; the update's own file is named by its digest.
const LETTER: &str = "update.json";

/// Why an update could not be written down or found again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// It cannot be read or removed.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The update cannot be encoded.
    #[error("the update cannot be written as a file")]
    Encode(#[from] AdapterError),
    /// Its description cannot.
    #[error("the update cannot be described")]
    Describe(#[from] serde_json::Error),
}

/// Which task an update answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskKey {
    /// The run's number.
    pub run: u64,
    /// The round.
    pub round: RoundId,
    /// The global adapter that training starts from.
    pub base: Digest,
}

/// An update that has no receipt yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// The task that it answers.
    pub task: TaskKey,
    /// The adapter's specification.
    pub spec: Digest,
    /// Digest of the file.
    pub blob: Digest,
    /// Size of the file.
    pub size_bytes: u64,
    /// Training examples.
    pub examples: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Mean training loss over those steps, unless it is private.
    pub train_loss: Option<f64>,
}

/// A folder with at most one update in it.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
}

impl Outbox {
    /// An outbox in a folder, which is made when there is something to hold.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file of an update.
    #[must_use]
    pub fn file(&self, letter: &Letter) -> PathBuf {
        self.folder.join(format!("{}.safetensors", letter.blob.to_hex()))
    }

    /// Writes an update down; it survives the end of this process. What was there before goes.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn put(&self, task: TaskKey, spec: Digest, submission: &Submission) -> Result<Letter, OutboxError> {
        self.clear()?;
        let tensors = submission.update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
        let bytes = encode(tensors)?;
        let letter = Letter {
            task,
            spec,
            blob: Digest::of(&bytes),
            size_bytes: bytes.len() as u64,
            examples: submission.examples,
            steps: submission.steps,
            train_loss: submission.train_loss,
        };
        files::write_for_now(&self.file(&letter), &bytes)?;
        // Last: the letter says that the update is whole.
        files::write_for_now(&self.folder.join(LETTER), &serde_json::to_vec(&letter)?)?;
        Ok(letter)
    }

    /// The update that was on its way for a task, if there is one and its bytes are those that were written.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn find(&self, task: TaskKey) -> Result<Option<Letter>, OutboxError> {
        let Some(json) = read(&self.folder.join(LETTER))? else { return Ok(None) };
        let letter = serde_json::from_slice(&json).ok().filter(|letter: &Letter| letter.task == task);
        let Some(letter) = letter else { return Ok(None) };
        let bytes = read(&self.file(&letter))?;
        Ok(bytes.filter(|bytes| Digest::of(bytes) == letter.blob).map(|_| letter))
    }

    /// Removes whatever is there.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn clear(&self) -> Result<(), OutboxError> {
        // The letter first: without it the rest means nothing.
        remove(&self.folder.join(LETTER))?;
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(OutboxError::Io { path: self.folder.clone(), source }),
        };
        entries.flatten().try_for_each(|entry| remove(&entry.path()))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, OutboxError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OutboxError::Io { path: path.to_owned(), source }),
    }
}

fn remove(path: &Path) -> Result<(), OutboxError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(OutboxError::Io { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::{Adapter, AdapterUpdate, ClientId, Directive, Factors, HeadPolicy};

    use super::*;
    use crate::testing::spec;

    const BOTH: Directive =
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Shared };

    fn submission() -> Submission {
        let adapter = Adapter::zeros(spec()).expect("a valid specification");
        let update = AdapterUpdate::select(&adapter, BOTH);
        Submission {
            client: ClientId(1),
            round: RoundId(2),
            examples: 5,
            steps: 3,
            train_loss: Some(0.1),
            spent: None,
            update,
        }
    }

    #[test]
    fn an_update_is_found_again_for_its_own_task_only() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let outbox = || Outbox::new(place.path().join("outbox"));
        let task = TaskKey { run: 1, round: RoundId(2), base: Digest::of(b"global") };
        assert_eq!(outbox().find(task).expect("readable"), None);
        let letter = outbox().put(task, spec().digest(), &submission()).expect("writable");
        assert_eq!(outbox().find(task).expect("readable"), Some(letter.clone()));
        for other in [TaskKey { run: 2, ..task }, TaskKey { round: RoundId(3), ..task }] {
            assert_eq!(outbox().find(other).expect("readable"), None);
        }
        fs::write(outbox().file(&letter), "cut off").expect("writable");
        assert_eq!(outbox().find(task).expect("readable"), None, "a damaged update is trained again");
        outbox().put(task, spec().digest(), &submission()).expect("writable");
        fs::write(place.path().join("outbox").join(LETTER), [0; 40]).expect("writable");
        assert_eq!(outbox().find(task).expect("readable"), None, "what a power failure left is trained again");
        outbox().clear().expect("removable");
        assert_eq!(fs::read_dir(place.path().join("outbox")).expect("a folder").count(), 0);
    }
}
