//! The file that an upload grows in. It survives a broken call and a restart; what is in it is hashed again before more
//! is added, so that nothing but the bytes themselves is trusted. After a loss of power they may be others than came in.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use fedlora_adapter::{Digest, UpdateLayout};
use tonic::codegen::Bytes;

use crate::{
    ReasonCode,
    check::{CheckError, Rejection},
};

/// Bytes read at a time when a file is hashed again.
const BLOCK: usize = 256 * 1024;
/// Bytes after which what was written is pushed to the disk, so that the last sync has little left to wait for.
const SYNC_BYTES: u64 = 16 << 20;

/// A partial update file.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    committed: u64,
    synced: u64,
    size: u64,
    /// There are bytes of an earlier call in it.
    is_resumed: bool,
    layout: UpdateLayout,
    head: Head,
}

/// The length and the header in front of the values.
#[derive(Debug)]
enum Head {
    /// Not all there yet.
    Partial(Vec<u8>),
    /// There, and valid.
    Checked,
}

/// Bytes of a partial upload, 0 if there is none.
pub(crate) fn committed(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Removes a spool file; one that stays is removed at the next start.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a partial upload cannot be removed");
    }
}

impl Spool {
    /// The file of an upload that has `size` bytes in the end; what is in it already counts once [`Spool::begin`] took it.
    pub(crate) fn open(path: PathBuf, size: u64, layout: UpdateLayout) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let found = file.metadata()?.len();
        if found > size {
            // Bytes of another upload: the announced digest says nothing about a size.
            file.set_len(0)?;
        }
        let committed = if found > size { 0 } else { found };
        let (hasher, head) = (blake3::Hasher::new(), Head::Partial(Vec::new()));
        Ok(Self { path, file, hasher, committed, synced: 0, size, is_resumed: false, layout, head })
    }

    /// Bytes that are there.
    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the first `offset` bytes and forgets the rest.
    pub(crate) fn begin(&mut self, offset: u64) -> Result<(), CheckError> {
        self.is_resumed = offset > 0;
        if offset < self.committed {
            self.file.set_len(offset)?;
        }
        self.file.seek(SeekFrom::Start(0))?;
        let mut block = vec![0; BLOCK.min(offset as usize)];
        let mut done = 0;
        while done < offset {
            let length = block.len().min((offset - done) as usize);
            self.file.read_exact(&mut block[..length])?;
            self.hasher.update(&block[..length]);
            self.look(&block[..length])?;
            done += length as u64;
        }
        self.committed = offset;
        Ok(())
    }

    /// Adds the bytes that follow.
    pub(crate) fn append(&mut self, pieces: &[Bytes]) -> Result<(), CheckError> {
        for piece in pieces {
            // Looked at before it is written: the body of a file with a bad header is never taken in.
            self.look(piece)?;
            self.file.write_all(piece)?;
            self.hasher.update(piece);
            self.committed += piece.len() as u64;
        }
        if self.committed - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.committed;
        }
        Ok(())
    }

    /// Checks the digest of the complete file.
    pub(crate) fn verify(self, expected: Digest) -> Result<(), CheckError> {
        let found = Digest::from_bytes(*self.hasher.finalize().as_bytes());
        if found == expected {
            return Ok(());
        }
        let detail = format!("the file's digest is {}, {} was announced", found.to_hex(), expected.to_hex());
        Err(blame(self.is_resumed, Rejection::new(ReasonCode::DigestMismatch, detail)))
    }

    /// Collects the header and checks it as soon as it is whole.
    fn look(&mut self, piece: &[u8]) -> Result<(), CheckError> {
        let Head::Partial(head) = &mut self.head else { return Ok(()) };
        let rejected = |error| blame(self.is_resumed, Rejection::from(&error));
        // First the length, then as many bytes as it says.
        let rest = take(head, piece, size_of::<u64>());
        let Some(first) = head.first_chunk::<8>() else { return Ok(()) };
        let wanted = self.layout.head_bytes(*first).map_err(rejected)?;
        take(head, rest, wanted);
        if head.len() == wanted {
            self.layout.check(head, self.size).map_err(rejected)?;
            self.head = Head::Checked;
        }
        Ok(())
    }
}

/// Whose fault it is. The disk may have lost, with its power, what an earlier call had brought: no client is to answer
/// for that, and one that sends the whole anew gets its verdict then.
fn blame(is_resumed: bool, rejection: Rejection) -> CheckError {
    if is_resumed { CheckError::Damaged } else { CheckError::Rejected(rejection) }
}

/// Moves bytes of a piece until `head` has as many as wanted; the rest of the piece.
fn take<'a>(head: &mut Vec<u8>, piece: &'a [u8], wanted: usize) -> &'a [u8] {
    let missing = wanted.saturating_sub(head.len()).min(piece.len());
    let (taken, rest) = piece.split_at(missing);
    head.extend_from_slice(taken);
    rest
}
