//! Whether data files are still the ones that a run began with.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use fedlora_adapter::Digest;
use fedlora_learner::DataError;
use serde::{Deserialize, Serialize};

use super::SiteError;
use crate::files;

/// A data file that is another one than the run began with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} has changed since this run began ({before} bytes then, {now} bytes now): a client trains all rounds of a \
     run on the same rows; put the old file back, or start again with --accept-changed-data to go on with the new one"
)]
pub struct Changed {
    file: PathBuf,
    before: u64,
    now: u64,
}

/// Size and content of data files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fingerprint(BTreeMap<PathBuf, Seen>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    bytes: u64,
    digest: Digest,
    /// Not written down: a copy of a file is the same file.
    #[serde(skip)]
    modified: Option<SystemTime>,
}

impl Fingerprint {
    /// The files as they are now.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn take(files: impl IntoIterator<Item = Arc<Path>>) -> Result<Self, SiteError> {
        let one = |file: Arc<Path>| Ok((file.to_path_buf(), Seen::take(&file).map_err(unreadable(&file))?));
        files.into_iter().map(one).collect::<Result<_, SiteError>>().map(Self)
    }

    /// Identity of what the files hold, wherever they lie.
    pub(crate) fn content(&self) -> Digest {
        let mut digests: Vec<&Digest> = self.0.values().map(|seen| &seen.digest).collect();
        digests.sort_unstable();
        let bytes: Vec<u8> = digests.into_iter().flat_map(|digest| *digest.as_bytes()).collect();
        Digest::of(&bytes)
    }

    /// Checks that the files are still the same ones; reads only those that were written since.
    ///
    /// # Errors
    /// The first file that has changed or is gone.
    pub(crate) fn check(&mut self) -> Result<(), SiteError> {
        for (file, seen) in &mut self.0 {
            let (bytes, modified) = stat(file).map_err(unreadable(file))?;
            if (seen.bytes, seen.modified) == (bytes, modified) {
                continue;
            }
            let now = Seen::take(file).map_err(unreadable(file))?;
            same(file, seen, &now)?;
            *seen = now;
        }
        Ok(())
    }

    /// Compares with what a run has written down of its data, and writes it down where it has not yet, or where
    /// `accept` says that a change is meant.
    ///
    /// # Errors
    /// A file that has changed; a record that cannot be written.
    pub(crate) fn remember(&self, record: &Path, accept: bool) -> Result<(), SiteError> {
        let before: Option<Self> = match fs::read(record) {
            Ok(json) => serde_json::from_slice(&json).ok(),
            Err(_) => None,
        };
        if let Some(before) = before.filter(|_| !accept) {
            for (file, now) in &self.0 {
                before.0.get(file).map_or(Ok(()), |seen| same(file, seen, now))?;
            }
            return Ok(());
        }
        let json = serde_json::to_vec_pretty(self).unwrap_or_default();
        Ok(files::write_atomically(record, &json)?)
    }
}

impl Seen {
    fn take(file: &Path) -> io::Result<Self> {
        let (_, modified) = stat(file)?;
        let content = fs::read(file)?;
        Ok(Self { bytes: content.len() as u64, digest: Digest::of(&content), modified })
    }
}

fn stat(file: &Path) -> io::Result<(u64, Option<SystemTime>)> {
    let metadata = fs::metadata(file)?;
    Ok((metadata.len(), metadata.modified().ok()))
}

fn same(file: &Path, before: &Seen, now: &Seen) -> Result<(), Changed> {
    if before.digest == now.digest {
        return Ok(());
    }
    Err(Changed { file: file.to_owned(), before: before.bytes, now: now.bytes })
}

fn unreadable(file: &Path) -> impl FnOnce(io::Error) -> SiteError + '_ {
    move |source| SiteError::Data(DataError::Read { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Arc<Path>) {
        let place = tempfile::tempdir().expect("a temporary directory");
        let file: Arc<Path> = place.path().join("rows.csv").into();
        fs::write(&file, "text,label\nx,1\n").expect("writable");
        (place, file)
    }

    #[test]
    fn a_file_that_changed_between_rounds_is_named_with_what_to_do() {
        let (_place, file) = place();
        let mut fingerprint = Fingerprint::take([Arc::clone(&file)]).expect("readable");
        fingerprint.check().expect("unchanged");
        fs::write(&file, "text,label\nx,1\ny,2\n").expect("writable");
        let error = fingerprint.check().expect_err("changed").to_string();
        assert!(error.contains("rows.csv has changed since this run began (15 bytes then, 19 bytes now)"), "{error}");
        fs::write(&file, "text,label\nx,1\n").expect("writable");
        fingerprint.check().expect("the old content is the old file");
    }

    #[test]
    fn a_change_between_two_starts_is_found_and_can_be_accepted() {
        let (place, file) = place();
        let record = place.path().join("run/data.json");
        let take = || Fingerprint::take([Arc::clone(&file)]).expect("readable");
        take().remember(&record, false).expect("first");
        take().remember(&record, false).expect("unchanged");
        fs::write(&file, "text,label\nz,1\n").expect("writable");
        take().remember(&record, false).expect_err("changed");
        take().remember(&record, true).expect("accepted");
        take().remember(&record, false).expect("unchanged since");
    }
}
