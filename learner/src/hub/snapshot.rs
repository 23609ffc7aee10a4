//! One commit of a repository in the cache.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{HubError, HubName};
use crate::{
    model::{CONFIG, WEIGHTS, WEIGHTS_INDEX, shards},
    tokenizer::TOKENIZER,
};

/// Characters of a commit's name.
const COMMIT: usize = 40;

/// A commit's place in a cache.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// The cache.
    root: PathBuf,
    name: HubName,
    commit: String,
}

impl Snapshot {
    pub(super) fn new(cache: &Path, name: &HubName, commit: &str) -> Self {
        Self { root: cache.to_owned(), name: name.clone(), commit: commit.to_owned() }
    }

    /// What the cache has of a revision: of a commit itself, of a branch or tag what it was when it was fetched last.
    pub(super) fn cached(cache: &Path, name: &HubName, revision: &str) -> Option<Self> {
        if is_commit(revision) {
            return Some(Self::new(cache, name, revision));
        }
        let found = fs::read_to_string(cache.join(name.folder()).join("refs").join(safe(revision)?)).ok()?;
        let commit = found.trim();
        let is_name = !commit.is_empty() && commit.bytes().all(|letter| letter.is_ascii_alphanumeric());
        is_name.then(|| Self::new(cache, name, commit))
    }

    /// Whether it is the commit of this name, which no later one can replace.
    pub(super) fn is_of(&self, revision: &str) -> bool {
        self.commit == revision
    }

    /// The model directory.
    pub(super) fn directory(&self) -> PathBuf {
        self.folder().join("snapshots").join(&self.commit)
    }

    /// The repository's name.
    pub(super) fn repository(&self) -> String {
        self.name.to_string()
    }

    pub(super) fn name(&self) -> &HubName {
        &self.name
    }

    pub(super) fn commit(&self) -> &str {
        &self.commit
    }

    /// The contents' place.
    pub(super) fn blobs(&self) -> PathBuf {
        self.folder().join("blobs")
    }

    /// The place of locks, which Python's library uses too.
    pub(super) fn locks(&self) -> PathBuf {
        self.root.join(".locks").join(self.name.folder())
    }

    fn folder(&self) -> PathBuf {
        self.root.join(self.name.folder())
    }

    /// Whether all files that a model needs are there: with weights, or without them.
    pub(super) fn is_whole(&self, weights: bool) -> bool {
        let directory = self.directory();
        let has = |file: &str| directory.join(file).is_file();
        let has_shards = || {
            let index = directory.join(WEIGHTS_INDEX);
            shards(&index).is_ok_and(|files| files.iter().all(|file| has(file)))
        };
        // What another program fetched may be weights alone. A model of texts has a vocabulary.
        let config = fs::read_to_string(directory.join(CONFIG));
        let described = config.is_ok_and(|config| has(TOKENIZER) || !config.contains("\"vocab_size\""));
        described && (!weights || has(WEIGHTS) || has_shards())
    }

    /// Gives a file of the snapshot its content.
    pub(super) fn link(&self, file: &str, blob: &Path) -> Result<(), HubError> {
        let link = self.directory().join(file);
        let failed = |source| HubError::File { file: link.clone(), source };
        fs::create_dir_all(self.directory()).map_err(failed)?;
        let etag = blob.file_name().unwrap_or_default();
        match symlink(&Path::new("../../blobs").join(etag), &link) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && link.exists() => Ok(()),
            // Where there are no links, or one leads nowhere.
            Err(_) => {
                let _ = fs::remove_file(&link);
                fs::hard_link(blob, &link).or_else(|_| fs::copy(blob, &link).map(|_| ())).map_err(failed)
            }
        }
    }

    /// Notes that the revision is this commit.
    pub(super) fn refer(&self, revision: &str) -> Result<(), HubError> {
        let Some(safe) = safe(revision).filter(|_| !self.is_of(revision)) else { return Ok(()) };
        let file = self.folder().join("refs").join(safe);
        let written = fs::create_dir_all(file.parent().unwrap_or(&file)).and_then(|()| fs::write(&file, &self.commit));
        written.map_err(|source| HubError::File { file, source })
    }
}

fn is_commit(revision: &str) -> bool {
    revision.len() == COMMIT && revision.bytes().all(|letter| letter.is_ascii_hexdigit())
}

/// A revision as a relative path; none for one that leads elsewhere.
fn safe(revision: &str) -> Option<&Path> {
    let path = Path::new(revision);
    path.components().all(|part| matches!(part, std::path::Component::Normal(_))).then_some(path)
}

#[cfg(unix)]
fn symlink(original: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(original, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_revision_leads_out_of_the_cache() {
        let name = HubName::of(Path::new("hf:org/name")).unwrap();
        let cache = tempfile::tempdir().unwrap();
        fs::write(cache.path().join("stray"), "abc").unwrap();
        assert!(Snapshot::cached(cache.path(), &name, "../../stray").is_none());
        let snapshot = Snapshot::new(cache.path(), &name, "abc");
        snapshot.refer("../../stray").unwrap();
        snapshot.refer("refs/pr/1").unwrap();
        assert_eq!(Snapshot::cached(cache.path(), &name, "refs/pr/1").unwrap().commit(), "abc");
        assert!(!snapshot.is_whole(false));
        // A commit in a reference is a directory's name, too.
        fs::write(cache.path().join("models--org--name/refs/main"), "../../..").unwrap();
        assert!(Snapshot::cached(cache.path(), &name, "main").is_none());
    }
}
