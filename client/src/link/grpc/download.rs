//! Fetching a round's global adapter.
//!
//! The bytes go to a file first: a broken download goes on where it stopped, and a client that comes back to the same
//! round finds the file there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use fedlora_adapter::{Adapter, Digest, decode_adapter};
use fedlora_proto::{
    digest_bytes,
    federation::{Chunk, DownloadRequest},
};
use tonic::Status;

use super::{LinkError, error::is_over, shared::Offer, transfer::Transfer};

/// Downloaded files, named by their digests.
#[derive(Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
}

/// A call that failed, or a file that did.
enum Failure {
    Call(Status),
    File(LinkError),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Call(status)
    }
}

impl Blobs {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, blob: Digest) -> PathBuf {
        self.folder.join(blob.to_hex())
    }

    fn partial(&self, blob: Digest) -> PathBuf {
        self.folder.join(format!("{}.partial", blob.to_hex()))
    }

    /// Removes all files but those of one blob: a later round has another adapter.
    fn keep_only(&self, blob: Digest) {
        let needed = [self.path(blob), self.partial(blob)];
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !needed.contains(&entry.path()) {
                // A file that stays costs space; the next round tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Transfer {
    /// The global adapter of a task; none if the task is not wanted any more.
    ///
    /// # Errors
    /// A coordinator that refuses; a file that cannot be written; bytes that are not the adapter that was announced.
    pub(super) async fn download(&self, blobs: &Blobs, offer: &Offer) -> Result<Option<Adapter>, LinkError> {
        fs::create_dir_all(&blobs.folder).map_err(in_file(&blobs.folder))?;
        blobs.keep_only(offer.blob);
        let mut backoff = self.backoff.clone();
        loop {
            if let Some(bytes) = whole(&blobs.path(offer.blob), offer)? {
                return adapter(&bytes, offer).map(Some);
            }
            let status = match self.fetch(blobs, offer).await {
                Ok(bytes) => return adapter(&bytes, offer).map(Some),
                Err(Failure::File(error)) => return Err(error),
                Err(Failure::Call(status)) => status,
            };
            if is_over(&status) {
                // Whoever comes back after the end of a round is not told of it. Should the round be open all the same,
                // it does not wait for this client.
                self.shared.decline(offer.key.round, "the coordinator no longer has the adapter of this round");
                return Ok(None);
            }
            if !self.wait(&status, &mut backoff).await? {
                return Ok(None);
            }
        }
    }

    /// One try: the rest of the partial file.
    async fn fetch(&self, blobs: &Blobs, offer: &Offer) -> Result<Vec<u8>, Failure> {
        let (partial, path) = (blobs.partial(offer.blob), blobs.path(offer.blob));
        let broken = |source| Failure::File(in_file(&partial)(source));
        let mut file = File::options().create(true).append(true).open(&partial).map_err(broken)?;
        let mut offset = file.metadata().map_err(broken)?.len();
        if offset < offer.blob_bytes {
            let request = DownloadRequest { blob: digest_bytes(offer.blob), offset };
            let mut chunks = self.dialer.federation().download(self.dialer.request(request)).await?.into_inner();
            while let Some(chunk) = chunks.message().await? {
                check(&chunk, offset, offer.blob_bytes)?;
                file.write_all(&chunk.data).map_err(broken)?;
                offset += chunk.data.len() as u64;
            }
            if offset < offer.blob_bytes {
                return Err(Status::data_loss("the download ended early").into());
            }
        }
        // Not synchronised: a crash of the machine costs this download, because whoever finds the file checks it.
        fs::rename(&partial, &path).map_err(broken)?;
        let bytes = fs::read(&path).map_err(|source| Failure::File(in_file(&path)(source)))?;
        if Digest::of(&bytes) == offer.blob {
            return Ok(bytes);
        }
        // Whatever went wrong, starting anew is the way out; the wait keeps it from being a busy loop.
        let _ = fs::remove_file(&path);
        Err(Status::data_loss("the downloaded bytes are not those that were announced").into())
    }
}

/// The bytes of a file that was downloaded before, if it is whole.
fn whole(path: &Path, offer: &Offer) -> Result<Option<Vec<u8>>, LinkError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| Digest::of(bytes) == offer.blob)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(in_file(path)(error)),
    }
}

fn check(chunk: &Chunk, offset: u64, size: u64) -> Result<(), Status> {
    if chunk.offset != offset || chunk.data.is_empty() || offset + chunk.data.len() as u64 > size {
        return Err(Status::data_loss("a chunk is not the one that follows"));
    }
    if crc32c::crc32c(&chunk.data) != chunk.crc32c {
        return Err(Status::data_loss("a chunk was damaged on its way"));
    }
    Ok(())
}

/// The adapter in a blob, checked against the run's specification and the task's digest.
fn adapter(bytes: &[u8], offer: &Offer) -> Result<Adapter, LinkError> {
    Ok(decode_adapter(bytes, &offer.run.spec, offer.key.base)?)
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> LinkError + '_ {
    move |source| LinkError::File { path: path.to_owned(), source }
}
