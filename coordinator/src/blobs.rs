//! Files by content: global adapters and updates, each under the digest of its bytes.
//!
//! A file that is there is complete: it is written elsewhere, made durable, renamed, and the folder made durable, in
//! this order. Names come from digests and client numbers alone, never from a message.

mod files;

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fedlora_adapter::{Adapter, AdapterError, AdapterSpec, AdapterWriter, ClientId, Digest, WrittenAdapter};

pub(crate) use files::{Files, SystemFiles};

use crate::StoreError;

const BLOBS: &str = "blobs";
const SPOOL: &str = "spool";

/// The files of one state directory. Clones are handles to the same files.
#[derive(Debug, Clone)]
pub struct Blobs {
    complete: PathBuf,
    spool: PathBuf,
    files: Arc<dyn Files>,
}

impl Blobs {
    /// Opens or makes `blobs/` and `spool/` in a state directory.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        Self::over(state, Arc::new(SystemFiles))
    }

    /// Over any file system.
    pub(crate) fn over(state: &Path, files: Arc<dyn Files>) -> Result<Self, StoreError> {
        let (complete, spool) = (state.join(BLOBS), state.join(SPOOL));
        for folder in [&complete, &spool] {
            files.create_folder(folder).map_err(StoreError::io(folder))?;
        }
        files.sync_folder(state).map_err(StoreError::io(state))?;
        Ok(Self { complete, spool, files })
    }

    /// Where the content of this BLAKE3 digest lies, whether or not it is there.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.complete.join(digest.to_hex())
    }

    /// Whether the content is there, as a whole.
    #[must_use]
    pub fn contains(&self, digest: Digest) -> bool {
        self.files.length(&self.path(digest)).is_ok()
    }

    /// Size of a content in bytes.
    ///
    /// # Errors
    /// It is not there, or cannot be looked at.
    pub fn size(&self, digest: Digest) -> Result<u64, StoreError> {
        let path = self.path(digest);
        self.files.length(&path).map_err(|source| missing_or_io(path, digest, source))
    }

    /// Where a client's upload collects until it is complete. The file survives a restart while the client is awaited.
    #[must_use]
    pub fn spool_path(&self, client: ClientId, digest: Digest) -> PathBuf {
        self.spool.join(format!("{}-{}", client.0, digest.to_hex()))
    }

    /// Takes a complete file over; its digest has been verified by the caller. Durable on return.
    ///
    /// # Errors
    /// It cannot be made durable or renamed; the spooled file is then still there, unless it has become the content.
    pub fn adopt(&self, spooled: &Path, digest: Digest) -> Result<(), StoreError> {
        self.files.sync(spooled).map_err(StoreError::io(spooled))?;
        let path = self.path(digest);
        self.files.rename(spooled, &path).map_err(StoreError::io(&path))?;
        self.files.sync_folder(&self.complete).map_err(StoreError::io(&self.complete))
    }

    /// Writes a content and returns its digest. Durable on return.
    ///
    /// # Errors
    /// It cannot be written or made durable; a full disk among others.
    pub fn write(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        // No client's spool file has this name: theirs begin with a number.
        let beside = self.spool.join(format!("server-{}", digest.to_hex()));
        let written = self.files.write(&beside, bytes).map_err(StoreError::io(&beside));
        let adopted = written.and_then(|()| self.adopt(&beside, digest));
        if adopted.is_err() {
            // Of no use to anyone, and on a full disk its room is needed; the next start removes what is left.
            let _ = self.files.remove(&beside);
        }
        adopted.map(|()| digest)
    }

    /// Begins a content that is written bit by bit, so that its digest is known last.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn begin(&self) -> Result<Draft<'_>, StoreError> {
        // A number of its own for each: a step that was given up may still be writing.
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let path = self.spool.join(format!("server-{number}"));
        let file = self.files.begin(&path).map_err(StoreError::io(&path))?;
        Ok(Draft { blobs: self, path, file, is_adopted: false })
    }

    /// Writes an adapter's file; the same adapter again, its values in that file. Durable on return.
    ///
    /// # Errors
    /// As [`Blobs::write`].
    pub(crate) fn write_adapter(&self, adapter: &Adapter) -> Result<(WrittenAdapter, Adapter), StoreError> {
        let draft = self.begin()?;
        let mut writer = draft.adapter(adapter.spec())?;
        writer.whole(adapter).map_err(|error| draft.failed(error))?;
        draft.adopt(writer)
    }

    /// Removes contents; one that cannot be removed is left to the next start.
    pub(crate) fn forget(&self, digests: impl IntoIterator<Item = Digest>) {
        for path in digests.into_iter().map(|digest| self.path(digest)) {
            if let Err(error) = self.files.remove(&path) {
                tracing::debug!(path = %path.display(), %error, "blob not removed");
            }
        }
    }

    /// Removes everything but the named contents and the spool files of the named clients. Returns how many went.
    pub(crate) fn sweep(&self, named: &BTreeSet<Digest>, awaited: &BTreeSet<ClientId>) -> Result<usize, StoreError> {
        let names: BTreeSet<PathBuf> = named.iter().map(|digest| self.path(*digest)).collect();
        let is_awaited = |path: &Path| client_of(path).is_some_and(|client| awaited.contains(&client));
        let list = |folder| self.files.list(folder).map_err(StoreError::io(folder));
        let blobs = list(&self.complete)?.into_iter().filter(|path| !names.contains(path));
        let spooled = list(&self.spool)?.into_iter().filter(|path| !is_awaited(path));
        let orphans: Vec<PathBuf> = blobs.chain(spooled).collect();
        for path in &orphans {
            self.files.remove(path).map_err(StoreError::io(path))?;
        }
        Ok(orphans.len())
    }
}

/// Contents that were begun by this process.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// A content that is being written; unless it is complete in the end, nothing stays of it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    blobs: &'a Blobs,
    path: PathBuf,
    file: File,
    is_adopted: bool,
}

impl Draft<'_> {
    /// What writes an adapter into it.
    pub(crate) fn adapter(&self, spec: &Arc<AdapterSpec>) -> Result<AdapterWriter, StoreError> {
        let file = self.file.try_clone().map_err(StoreError::io(&self.path))?;
        AdapterWriter::new(spec, file, &self.path).map_err(|error| self.failed(error))
    }

    /// Makes the file durable under its digest; the adapter that is in it from then on.
    pub(crate) fn adopt(mut self, writer: AdapterWriter) -> Result<(WrittenAdapter, Adapter), StoreError> {
        let written = writer.finish().map_err(|error| self.failed(error))?;
        self.blobs.adopt(&self.path, written.content())?;
        self.is_adopted = true;
        let path = self.blobs.path(written.content());
        let adapter = written.open(&path).map_err(|error| self.failed(error))?;
        Ok((written, adapter))
    }

    /// Whether it is this file that failed.
    pub(crate) fn is_in(&self, error: &AdapterError) -> bool {
        matches!(error, AdapterError::Io { path, .. } if *path == self.path)
    }

    /// A failure of the file is one of the store.
    pub(crate) fn failed(&self, error: AdapterError) -> StoreError {
        match error {
            AdapterError::Io { path, source } => StoreError::Io { path, source },
            error => StoreError::Adapter { path: self.path.clone(), source: Box::new(error) },
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_adopted {
            // Of no use to anyone, and on a full disk its room is needed; the next start removes what is left.
            let _ = self.blobs.files.remove(&self.path);
        }
    }
}

fn missing_or_io(path: PathBuf, digest: Digest, source: io::Error) -> StoreError {
    if source.kind() == io::ErrorKind::NotFound {
        StoreError::MissingBlob { path, digest }
    } else {
        StoreError::Io { path, source }
    }
}

/// Whose upload a spool file is.
fn client_of(path: &Path) -> Option<ClientId> {
    let (client, _) = path.file_name()?.to_str()?.split_once('-')?;
    client.parse().ok().map(ClientId)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let blobs = Blobs::open(folder.path()).expect("a writable folder");
        (folder, blobs)
    }

    #[test]
    fn what_is_written_is_found_under_its_digest() {
        let (_folder, blobs) = blobs();
        let digest = blobs.write(b"content").expect("written");
        assert_eq!(digest, Digest::of(b"content"));
        assert_eq!((blobs.contains(digest), blobs.size(digest).expect("there")), (true, 7));
        assert_eq!(fs::read(blobs.path(digest)).expect("readable"), b"content");
        assert_eq!(blobs.write(b"content").expect("written again"), digest);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let (_folder, blobs) = blobs();
        let error = blobs.size(Digest::of(b"nothing")).expect_err("not there");
        assert!(error.to_string().contains(&Digest::of(b"nothing").to_hex()), "{error}");
    }

    #[test]
    fn an_adopted_upload_leaves_the_spool() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"update");
        let spooled = blobs.spool_path(ClientId(3), digest);
        fs::write(&spooled, b"update").expect("a writable folder");
        assert!(!blobs.contains(digest));
        blobs.adopt(&spooled, digest).expect("adopted");
        assert!(blobs.contains(digest) && !spooled.exists());
    }

    #[test]
    fn a_sweep_leaves_what_is_named_and_the_uploads_of_awaited_clients() {
        let (_folder, blobs) = blobs();
        let kept = blobs.write(b"kept").expect("written");
        let orphan = blobs.write(b"orphan").expect("written");
        let (awaited, gone) = (blobs.spool_path(ClientId(3), kept), blobs.spool_path(ClientId(33), kept));
        for path in [&awaited, &gone, &blobs.spool.join("server-rest")] {
            fs::write(path, b"half").expect("a writable folder");
        }
        let removed = blobs.sweep(&BTreeSet::from([kept]), &BTreeSet::from([ClientId(3)])).expect("swept");
        assert_eq!(removed, 3);
        assert!(blobs.contains(kept) && !blobs.contains(orphan) && awaited.exists() && !gone.exists());
    }

    #[test]
    fn a_folder_in_the_way_is_named_with_the_reason() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("blobs"), b"a file").expect("a writable folder");
        let error = Blobs::open(folder.path()).expect_err("no folder");
        assert!(error.to_string().contains("blobs"), "{error}");
    }
}
