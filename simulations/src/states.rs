//! What virtual clients keep between rounds: in memory or on disk, and recoverable as of any checkpoint.
//!
//! A file holds the state of one client after one round and is never overwritten, so a checkpoint is a list of rounds:
//! what a run did after its last checkpoint lies in files that the list does not name.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fedlora_adapter::{AdapterError, AdapterSpec, ClientId, Digest, RoundId};
use fedlora_client::{Kept, KeptStore, decode_kept, encode_kept};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Why a client's state could not be kept or found again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} is not the kept state of a client")]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: AdapterError,
    },
    /// The file is not the one that the checkpoint means.
    #[error("{path}: the digest of the client's kept state is {found}, recorded was {expected}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Digest recorded.
        expected: Digest,
        /// Digest found.
        found: Digest,
    },
}

/// One client's state in a checkpoint: the file of a round, by name and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The round after which the client kept it.
    pub round: RoundId,
    /// Of the file's bytes.
    pub digest: Digest,
}

/// The kept states of all clients; clones share them.
#[derive(Debug, Clone)]
pub struct States(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    directory: Option<PathBuf>,
    spill: bool,
    spec: Arc<AdapterSpec>,
    round: RoundId,
    clients: BTreeMap<ClientId, State>,
}

#[derive(Debug)]
struct State {
    round: RoundId,
    on_disk: Option<Digest>,
    kept: Option<Kept>,
}

impl States {
    /// No states yet. Without a directory nothing can be spilled or checkpointed.
    #[must_use]
    pub fn new(spec: Arc<AdapterSpec>, directory: Option<PathBuf>, spill: bool) -> Self {
        let spill = spill && directory.is_some();
        Self(Arc::new(Mutex::new(Inner { directory, spill, spec, round: RoundId(0), clients: BTreeMap::new() })))
    }

    /// The round that states saved from now on belong to.
    pub fn begin(&self, round: RoundId) {
        self.inner().round = round;
    }

    /// Makes every state durable and says which file is which client's.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn checkpoint(&self) -> Result<BTreeMap<ClientId, Saved>, StateError> {
        let inner = &mut *self.inner();
        let Some(directory) = &inner.directory else { return Ok(BTreeMap::new()) };
        let mut saved = BTreeMap::new();
        for (client, state) in &mut inner.clients {
            if let (None, Some(kept)) = (state.on_disk, &state.kept) {
                state.on_disk = Some(write(directory, *client, state.round, kept)?);
            }
            saved.extend(state.on_disk.map(|digest| (*client, Saved { round: state.round, digest })));
        }
        Ok(saved)
    }

    /// Goes back to the states of a checkpoint.
    ///
    /// # Errors
    /// A state that cannot be read or is not the one that was saved.
    pub fn restore(&self, checkpoint: &BTreeMap<ClientId, Saved>) -> Result<(), StateError> {
        let inner = &mut *self.inner();
        inner.clients.clear();
        let Some(directory) = &inner.directory else { return Ok(()) };
        for (client, &Saved { round, digest }) in checkpoint {
            let kept = read(directory, *client, round, digest, &inner.spec)?;
            let kept = (!inner.spill).then_some(kept);
            inner.clients.insert(*client, State { round, on_disk: Some(digest), kept });
        }
        Ok(())
    }

    /// Deletes the files that neither this checkpoint nor the current states need.
    pub fn prune(&self, checkpoint: &BTreeMap<ClientId, Saved>) {
        let inner = self.inner();
        let Some(directory) = &inner.directory else { return };
        let Ok(entries) = fs::read_dir(directory) else { return };
        let current = inner.clients.iter().map(|(client, state)| (*client, state.round));
        let needed: Vec<PathBuf> = checkpoint
            .iter()
            .map(|(client, saved)| (*client, saved.round))
            .chain(current)
            .map(|(client, round)| file(directory, client, round))
            .collect();
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !needed.contains(path)) {
            // A file that stays costs space and nothing else.
            let _ = fs::remove_file(path);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held cannot leave a half-changed state: each change is one insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptStore for States {
    type Error = StateError;

    fn load(&self, client: ClientId) -> Result<Kept, StateError> {
        let inner = self.inner();
        match (inner.clients.get(&client), &inner.directory) {
            (Some(State { kept: Some(kept), .. }), _) => Ok(kept.clone()),
            (Some(&State { round, on_disk: Some(digest), .. }), Some(directory)) => {
                read(directory, client, round, digest, &inner.spec)
            }
            _ => Ok(Kept::default()),
        }
    }

    fn save(&mut self, client: ClientId, kept: Kept) -> Result<(), StateError> {
        let inner = &mut *self.inner();
        if kept.tensors.is_empty() {
            return Ok(());
        }
        let mut state = State { round: inner.round, on_disk: None, kept: None };
        match &inner.directory {
            Some(directory) if inner.spill => state.on_disk = Some(write(directory, client, inner.round, &kept)?),
            _ => state.kept = Some(kept),
        }
        inner.clients.insert(client, state);
        Ok(())
    }
}

fn file(directory: &Path, client: ClientId, round: RoundId) -> PathBuf {
    directory.join(format!("{client}-round-{:04}.safetensors", round.0))
}

fn write(directory: &Path, client: ClientId, round: RoundId, kept: &Kept) -> Result<Digest, StateError> {
    let path = file(directory, client, round);
    let bytes = encode_kept(kept).map_err(|source| StateError::Content { path: path.clone(), source })?;
    files::write_atomically(&path, &bytes)?;
    Ok(Digest::of(&bytes))
}

fn read(
    directory: &Path,
    client: ClientId,
    round: RoundId,
    expected: Digest,
    spec: &AdapterSpec,
) -> Result<Kept, StateError> {
    let path = file(directory, client, round);
    let bytes = fs::read(&path).map_err(|source| StateError::Read { path: path.clone(), source })?;
    let found = Digest::of(&bytes);
    if found != expected {
        return Err(StateError::Damaged { path, expected, found });
    }
    decode_kept(&bytes, spec).map_err(|source| StateError::Content { path, source })
}
