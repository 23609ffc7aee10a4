//! Blobs on their way to clients.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use fedlora_adapter::Digest;
use fedlora_proto::federation::Chunk;
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, error::SendTimeoutError},
    },
    task::spawn_blocking,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, codegen::Bytes};

use super::{Authenticate, FederationService, Rounds};
use crate::{grpc::status::CallError, metrics::Metrics, upload::Revoked};

/// Bytes of a chunk: a quarter of what the protocol allows, since a few of them are in memory for each transfer.
const CHUNK_BYTES: u64 = 256 * 1024;

impl<R: Rounds, A: Authenticate> FederationService<R, A> {
    /// Sends a blob from an offset on. Only the adapter of the open round is to be had.
    pub(super) async fn send(
        &self,
        blob: Digest,
        offset: u64,
        revoked: Revoked,
    ) -> Result<ReceiverStream<Result<Chunk, Status>>, CallError> {
        if self.rounds.round().is_none_or(|round| round.blob != blob) {
            return Err(CallError::UnknownBlob { blob });
        }
        let queue = timeout(self.settings.transfer_queue_timeout(), Arc::clone(&self.sending).acquire_owned()).await;
        let busy = CallError::Busy { retry_after: Duration::from_secs(5) };
        let turn = queue.map_err(|_| busy)?.map_err(|_| CallError::CutOff)?;
        let path = self.rounds.blob_path(blob);
        let source = spawn_blocking(move || Source::open(path, offset)).await.map_err(|_| CallError::CutOff)??;
        // One chunk waits while the next is read; the other place is kept for an error.
        let (sender, receiver) = mpsc::channel(2);
        let (metrics, patience) = (Arc::clone(&self.metrics), self.settings.stall_window());
        tokio::spawn(Transfer { source: Some(source), sender, metrics, patience, revoked, _turn: turn }.run());
        Ok(ReceiverStream::new(receiver))
    }
}

/// A blob being read.
struct Source {
    file: File,
    offset: u64,
    size: u64,
}

impl Source {
    fn open(path: PathBuf, offset: u64) -> Result<Self, CallError> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        if offset > size {
            return Err(CallError::BeyondBlob { offset, size });
        }
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file, offset, size })
    }

    fn next(&mut self) -> io::Result<Option<Chunk>> {
        let length = CHUNK_BYTES.min(self.size - self.offset);
        if length == 0 {
            return Ok(None);
        }
        let mut data = Vec::with_capacity(length as usize);
        Read::by_ref(&mut self.file).take(length).read_to_end(&mut data)?;
        if data.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let chunk = Chunk { offset: self.offset, crc32c: crc32c::crc32c(&data), data: Bytes::from(data) };
        self.offset += length;
        Ok(Some(chunk))
    }
}

struct Transfer {
    source: Option<Source>,
    sender: mpsc::Sender<Result<Chunk, Status>>,
    metrics: Arc<Metrics>,
    patience: Duration,
    revoked: Revoked,
    _turn: OwnedSemaphorePermit,
}

impl Transfer {
    /// Sends to the end, or says why not. Who stops reading is cut off, so that another gets the turn.
    async fn run(mut self) {
        // Room for the last word, whether or not the chunks before it were read.
        let Ok(last) = self.sender.clone().reserve_owned().await else { return };
        if let Err(error) = self.send_all().await {
            last.send(Err(error.into()));
        }
    }

    async fn send_all(&mut self) -> Result<(), CallError> {
        let Some(mut source) = self.source.take() else { return Ok(()) };
        loop {
            let read = spawn_blocking(move || {
                let chunk = source.next();
                (source, chunk)
            });
            let (back, chunk) = read.await.map_err(|_| CallError::CutOff)?;
            source = back;
            let Some(chunk) = chunk? else { return Ok(()) };
            let bytes = chunk.data.len() as u64;
            let sent = tokio::select! {
                biased;
                () = &mut self.revoked => return Err(CallError::Ended { reason: "revoked" }),
                sent = self.sender.send_timeout(Ok(chunk), self.patience) => sent,
            };
            match sent {
                Ok(()) => self.metrics.add_sent(bytes),
                Err(SendTimeoutError::Closed(_)) => return Ok(()),
                Err(SendTimeoutError::Timeout(_)) => {
                    return Err(CallError::Stalled { bytes, window: self.patience });
                }
            }
        }
    }
}
