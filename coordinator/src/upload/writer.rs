//! Hashes and writes on a blocking thread what the network brings, one batch behind.

use tokio::task::JoinHandle;
use tonic::codegen::Bytes;

use super::spool::Spool;
use crate::{check::CheckError, grpc::status::CallError};

/// Bytes that are worth a trip to another thread.
const BATCH_BYTES: usize = 256 * 1024;

/// Why writing ended.
pub(super) enum WriteError {
    /// Of the update: it is invalid, or the disk does not take it.
    Check(CheckError),
    /// Of the call.
    Call(CallError),
}

type Job = JoinHandle<(Spool, Result<(), CheckError>)>;

/// A spool file with at most one batch on its way into it and one being collected.
pub(super) struct Writer {
    /// Here, unless a job has it.
    spool: Option<Spool>,
    job: Option<Job>,
    batch: Vec<Bytes>,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(spool: Spool) -> Self {
        Self { spool: Some(spool), job: None, batch: Vec::new(), bytes: 0 }
    }

    /// Keeps the first `offset` bytes of the file.
    pub(super) async fn begin(&mut self, offset: u64) -> Result<(), WriteError> {
        self.start(move |spool| spool.begin(offset)).await
    }

    /// Takes a piece; errors are those of earlier pieces.
    pub(super) async fn push(&mut self, piece: Bytes) -> Result<(), WriteError> {
        self.bytes += piece.len();
        self.batch.push(piece);
        if self.bytes >= BATCH_BYTES { self.start_batch().await } else { Ok(()) }
    }

    /// Everything is in the file when this returns, or an error says why not. The file is still there then.
    pub(super) async fn flush(&mut self) -> Result<(), WriteError> {
        self.start_batch().await?;
        self.wait().await
    }

    /// The file, after [`Writer::flush`].
    pub(super) fn into_spool(self) -> Option<Spool> {
        self.spool
    }

    async fn start_batch(&mut self) -> Result<(), WriteError> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        self.start(move |spool| spool.append(&batch)).await
    }

    async fn start(
        &mut self,
        work: impl FnOnce(&mut Spool) -> Result<(), CheckError> + Send + 'static,
    ) -> Result<(), WriteError> {
        self.wait().await?;
        let Some(mut spool) = self.spool.take() else { return Err(WriteError::Call(CallError::CutOff)) };
        self.job = Some(tokio::task::spawn_blocking(move || {
            let result = work(&mut spool);
            (spool, result)
        }));
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), WriteError> {
        let Some(job) = self.job.take() else { return Ok(()) };
        let (spool, result) = job.await.map_err(|_| WriteError::Call(CallError::CutOff))?;
        self.spool = Some(spool);
        result.map_err(WriteError::Check)
    }
}
