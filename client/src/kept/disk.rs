//! Kept tensors of a deployed client, in its state directory.
//!
//! A file holds what the client kept after one round and says its digest in its name. The state before a round stays
//! until the next round begins: a client that dies between training and sending trains the round again from there,
//! and so comes to the same update.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use fedlora_adapter::{AdapterError, ClientId, Digest, RoundId};

use super::{Kept, KeptStore, decode_kept, encode_kept};
use crate::{
    Terms,
    files::{self, FileError},
    state::run_folder,
    terms::Current,
};

/// Why kept tensors could not be stored or found again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The directory or file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file's bytes are not those that were written.
    #[error(
        "{path} is damaged: its digest is {found}; restore it from a backup, or remove it to start this client anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Digest of its bytes.
        found: Digest,
    },
    /// The file holds something else.
    #[error("{path} is not what a client of this run keeps")]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: AdapterError,
    },
    /// Asked outside of a round.
    #[error("no round is under way, so it is not known whose state is meant")]
    NoRound,
}

/// Kept tensors on disk, one folder for each run, of the round that [`Terms`] say is under way.
#[derive(Debug)]
pub struct DiskStore {
    root: PathBuf,
    terms: Terms,
}

/// One file of kept tensors.
struct Stored {
    round: RoundId,
    path: PathBuf,
    digest: String,
}

impl DiskStore {
    /// A store below `root`, which belongs to one coordinator.
    #[must_use]
    pub fn new(root: PathBuf, terms: Terms) -> Self {
        Self { root, terms }
    }

    fn current(&self) -> Result<Current, KeptError> {
        self.terms.current().ok_or(KeptError::NoRound)
    }

    fn folder(&self, current: &Current) -> PathBuf {
        run_folder(&self.root, &current.run).join("kept")
    }
}

impl KeptStore for DiskStore {
    type Error = KeptError;

    fn load(&self, client: ClientId) -> Result<Kept, KeptError> {
        let current = self.current()?;
        let stored = list(&self.folder(&current), client)?;
        let Some(latest) = stored.into_iter().rfind(|stored| stored.round < current.round) else {
            return Ok(Kept::default());
        };
        let path = latest.path;
        let bytes = fs::read(&path).map_err(|source| KeptError::Read { path: path.clone(), source })?;
        let found = Digest::of(&bytes);
        if found.to_hex() != latest.digest {
            return Err(KeptError::Damaged { path, found });
        }
        decode_kept(&bytes, &current.run.spec).map_err(|source| KeptError::Content { path, source })
    }

    fn save(&mut self, client: ClientId, kept: Kept) -> Result<(), KeptError> {
        if kept.tensors.is_empty() {
            return Ok(());
        }
        let current = self.current()?;
        let folder = self.folder(&current);
        let before = list(&folder, client)?;
        let bytes = encode_kept(&kept).map_err(|source| KeptError::Content { path: folder.clone(), source })?;
        let name = format!("{client}-round-{}-{}.safetensors", current.round.0, Digest::of(&bytes).to_hex());
        let path = folder.join(name);
        files::write_atomically(&path, &bytes)?;
        let needed = before.iter().rfind(|stored| stored.round < current.round).map(|stored| stored.path.clone());
        for old in before.into_iter().filter(|old| old.path != path && Some(&old.path) != needed.as_ref()) {
            // A file that stays costs space; a later round removes it.
            let _ = fs::remove_file(old.path);
        }
        Ok(())
    }
}

/// A client's files in round order; none where there is no folder yet.
fn list(folder: &Path, client: ClientId) -> Result<Vec<Stored>, KeptError> {
    let failed = |source| KeptError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut stored = Vec::new();
    for entry in entries {
        stored.extend(parse(entry.map_err(failed)?.path(), client));
    }
    stored.sort_by_key(|stored| stored.round);
    Ok(stored)
}

fn parse(path: PathBuf, client: ClientId) -> Option<Stored> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".safetensors")?;
    let (round, digest) = stem.strip_prefix(&format!("{client}-round-"))?.split_once('-')?;
    let (round, digest) = (RoundId(round.parse().ok()?), digest.to_owned());
    Some(Stored { round, path, digest })
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::{Adapter, Side, names};

    use super::*;
    use crate::testing::{run, spec};

    const CLIENT: ClientId = ClientId(3);

    fn kept(value: f32) -> Kept {
        let spec = spec();
        let adapter = Adapter::zeros(spec.clone()).expect("a valid specification");
        let b = |(name, factors): (&fedlora_adapter::ModuleName, &fedlora_adapter::LoraFactors)| {
            let mut tensor = factors.b.clone();
            tensor.values_mut().fill(value);
            (names::factor(spec.kind, name, Side::B), tensor)
        };
        Kept { tensors: adapter.modules().iter().map(b).collect() }
    }

    fn store(place: &Path, round: u64) -> DiskStore {
        let terms = Terms::default();
        terms.set(run(1), RoundId(round));
        DiskStore::new(place.to_owned(), terms)
    }

    #[test]
    fn what_is_kept_survives_a_restart_and_a_repeated_round_starts_where_it_started_before() {
        let place = tempfile::tempdir().expect("a temporary directory");
        for round in 1..=3 {
            let mut store = store(place.path(), round);
            let expected = if round == 1 { Kept::default() } else { kept(round as f32 - 1.0) };
            assert_eq!(store.load(CLIENT).expect("readable"), expected);
            store.save(CLIENT, kept(round as f32)).expect("writable");
            assert_eq!(store.load(CLIENT).expect("readable"), expected, "the round may be trained again");
        }
        assert_eq!(store(place.path(), 4).load(CLIENT).expect("readable"), kept(3.0));
        assert_eq!(store(place.path(), 4).load(ClientId(4)).expect("readable"), Kept::default());
    }

    #[test]
    fn a_damaged_file_is_named_and_not_taken_for_nothing() {
        let place = tempfile::tempdir().expect("a temporary directory");
        store(place.path(), 1).save(CLIENT, kept(1.0)).expect("writable");
        let next = store(place.path(), 2);
        let folder = next.folder(&next.current().expect("a round"));
        let path = list(&folder, CLIENT).expect("readable").remove(0).path;
        let mut bytes = fs::read(&path).expect("readable");
        *bytes.last_mut().expect("not empty") ^= 1;
        fs::write(&path, bytes).expect("writable");
        let error = next.load(CLIENT).expect_err("damaged").to_string();
        assert!(error.contains("is damaged") && error.contains("client-3-round-1"), "{error}");
    }
}
