//! A published adapter as a stream of file pieces.

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use fedlora_adapter::{Adapter, PeftOptions, write_peft};
use fedlora_proto::operator::FilePiece;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    follow::Answers,
    refusal::{INTERNAL, refuse},
};
use crate::plain::chain;

/// Bytes in a piece.
const PIECE: usize = 256 << 10;

/// Pieces that wait for a slow reader.
const QUEUE: usize = 4;

/// Where PEFT folders lie while they are sent. A folder of its own for each, removed when it is sent.
#[derive(Debug)]
pub(super) struct Exports {
    folder: PathBuf,
    next: AtomicU64,
}

impl Exports {
    /// Below a state directory. What an earlier process left there is removed: nobody reads it any more.
    pub(super) fn new(state: &Path) -> Self {
        let folder = state.join("exports");
        // It need not exist, and what cannot be removed is overwritten.
        let _ = fs::remove_dir_all(&folder);
        Self { folder, next: AtomicU64::new(0) }
    }

    /// Writes the adapter as `peft` reads it and streams the files.
    pub(super) fn stream(&self, adapter: Adapter, options: PeftOptions) -> Answers<FilePiece> {
        let folder = Temporary(self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string()));
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let written = write_peft(&folder.0, &adapter, &options).map_err(|error| failed(&chain(&error)));
            let sent = written.and_then(|()| send(&folder.0, &sender));
            if let Err(status) = sent {
                // A reader that is gone needs no telling.
                let _ = sender.blocking_send(Err(status));
            }
        });
        ReceiverStream::new(receiver)
    }
}

/// A folder that goes when it is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // The next start removes what is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn failed(words: &str) -> Status {
    refuse(Code::Internal, INTERNAL, format!("cannot export: {words}"))
}

/// Sends a folder's files in the order of their names; stops when nobody reads.
fn send(folder: &Path, sender: &mpsc::Sender<Result<FilePiece, Status>>) -> Result<(), Status> {
    let in_folder = |error: io::Error| failed(&format!("{}: {error}", folder.display()));
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(in_folder)?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        send_file(&path, sender).map_err(|error| failed(&format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

fn send_file(path: &Path, sender: &mpsc::Sender<Result<FilePiece, Status>>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut file = fs::File::open(path)?;
    let mut offset = 0;
    loop {
        let mut data = Vec::with_capacity(PIECE);
        let read = (&mut file).take(PIECE as u64).read_to_end(&mut data)?;
        // An empty file is one empty piece; any other ends with its last byte.
        if read == 0 && offset > 0 {
            return Ok(());
        }
        let piece = FilePiece { name: name.clone(), offset, crc32c: crc32c::crc32c(&data), data: data.into() };
        if sender.blocking_send(Ok(piece)).is_err() || read == 0 {
            return Ok(());
        }
        offset += read as u64;
    }
}
