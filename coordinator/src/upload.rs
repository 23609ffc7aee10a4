//! Uploads of updates: bounded before they are taken in, spooled to disk, checked as a whole, and only then handed to
//! the engine.
//!
//! A verdict on an update is a receipt. Trouble of the call itself is an error, and leaves the bytes that came in where
//! the next attempt goes on.

mod header;
mod pace;
mod receive;
mod slot;
mod spool;
mod writer;

use std::{pin::Pin, sync::Arc, time::Duration};

use fedlora_adapter::ClientId;
use fedlora_proto::federation::{UploadHeader, UploadMessage, upload_message::Kind};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};
use tonic::Streaming;

use crate::{
    Receipt, UpdateMeta, Verdict,
    check::{CheckError, Rejection, check_update},
    grpc::{Rounds, Settings, progress::Received, status::CallError},
    metrics::Metrics,
};
use header::{Target, meta};
use slot::{Slot, Slots};
use spool::Spool;

pub(crate) use spool::committed;

/// The parts that need no runtime, for a test that has none.
#[cfg(test)]
pub(crate) mod parts {
    pub(crate) use super::{
        header::{Target, check as check_header},
        spool::{Spool, committed, remove as remove_spooled},
    };
}

/// Bytes for which one permit stands.
const PERMIT_BYTES: u64 = 64 * 1024;

/// Complete files that are checked and synchronised at a time. Each has a thread; more of them would only stand in line
/// for the disk, with their stacks and their heaps.
const JUDGED: usize = 16;

/// What uploads of all clients share.
#[derive(Debug)]
pub(crate) struct Uploads {
    slots: Slots,
    admitted: Arc<Semaphore>,
    permits: u32,
    receiving: Arc<Semaphore>,
    judging: Semaphore,
    patience: Duration,
}

impl Uploads {
    pub(crate) fn new(settings: &Settings) -> Self {
        let permits = u32::try_from(settings.max_upload_bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).max(1);
        // A semaphore of tokio holds fewer permits than a number of 32 bits on small machines.
        let permits = permits.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            slots: Slots::default(),
            admitted: Arc::new(Semaphore::new(permits as usize)),
            permits,
            receiving: Arc::new(Semaphore::new(settings.max_concurrent_transfers.get())),
            judging: Semaphore::new(JUDGED),
            patience: settings.transfer_queue_timeout(),
        }
    }

    /// Room for the bytes of one upload; at once or not at all.
    fn admit(&self, bytes: u64) -> Result<OwnedSemaphorePermit, CallError> {
        // One that is larger than all the room there is goes alone.
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.permits);
        let busy = |_| CallError::Busy { retry_after: Duration::from_secs(5) };
        Arc::clone(&self.admitted).try_acquire_many_owned(permits).map_err(busy)
    }

    /// A turn to receive: the memory of an upload is bounded, so the number of those that have some is.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, CallError> {
        let turn = timeout(self.patience, Arc::clone(&self.receiving).acquire_owned()).await;
        let busy = CallError::Busy { retry_after: Duration::from_secs(5) };
        turn.map_err(|_| busy)?.map_err(|_| CallError::CutOff)
    }
}

/// Something that happens when the client's rights are taken away.
pub(crate) type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One call of `Upload`.
pub(crate) struct Upload<R> {
    pub(crate) desk: Desk<R>,
    pub(crate) client: ClientId,
    pub(crate) inbound: Streaming<UploadMessage>,
    pub(crate) received: Option<Received>,
    pub(crate) revoked: Revoked,
}

/// What a call works with, apart from what it reads.
pub(crate) struct Desk<R> {
    pub(crate) rounds: R,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<R: Rounds> Upload<R> {
    /// Takes the upload to its verdict.
    pub(crate) async fn run(mut self) -> Result<Receipt, CallError> {
        let meta = meta(self.client, &self.header().await?)?;
        let mut slot = self.desk.uploads.slots.take(self.client, self.desk.settings.stall_window()).await?;
        let receipt = match self.desk.known(&meta).await? {
            Some(receipt) => receipt,
            None => self.receive(meta, &mut slot).await?,
        };
        self.desk.metrics.count(&receipt);
        let (reason, verdict) = (receipt.reason.map_or("", crate::ReasonCode::as_str), receipt.verdict);
        tracing::info!(client = self.client.0, run = meta.run.0, round = meta.round.0, ?verdict, reason, "update");
        Ok(receipt)
    }

    async fn header(&mut self) -> Result<UploadHeader, CallError> {
        let (expected, waited) = ("UploadHeader", self.desk.settings.first_message_timeout());
        let message = timeout(waited, self.inbound.message()).await;
        match message.map_err(|_| CallError::Silent { expected, waited })?.map_err(CallError::Broken)? {
            Some(UploadMessage { kind: Some(Kind::Header(header)) }) => Ok(header),
            _ => Err(CallError::FirstMessage { expected }),
        }
    }

    async fn receive(&mut self, meta: UpdateMeta, slot: &mut Slot) -> Result<Receipt, CallError> {
        let target = match header::check(&self.desk.rounds, &meta) {
            Ok(target) => target,
            Err(rejection) => return self.desk.refuse(meta, rejection).await,
        };
        let _room = self.desk.uploads.admit(meta.size_bytes)?;
        let turn = self.desk.uploads.turn().await?;
        let spool = self.desk.open(&meta, &target, slot).await?;
        let taken = self.take_in(spool, &meta, slot).await;
        // The rest needs no memory, and its turn may be another's.
        drop(turn);
        let rejection = match taken? {
            Err(rejection) => Some(rejection),
            Ok(spool) => self.desk.finish(spool, meta, target).await?,
        };
        match rejection {
            Some(rejection) => self.desk.refuse(meta, rejection).await,
            None => Ok(self.desk.rounds.submit(meta).await?),
        }
    }
}

impl<R: Rounds> Desk<R> {
    /// The receipt of an update that was judged before, with the same content.
    async fn known(&self, meta: &UpdateMeta) -> Result<Option<Receipt>, CallError> {
        let receipt = self.rounds.receipt(meta.client, meta.run, meta.round, meta.blob).await?;
        Ok(receipt.map(|receipt| match receipt.verdict {
            Verdict::Accepted => Receipt { verdict: Verdict::Duplicate, ..receipt },
            _ => receipt,
        }))
    }

    async fn open(&self, meta: &UpdateMeta, target: &Target, slot: &mut Slot) -> Result<Spool, CallError> {
        let path = self.rounds.spool_path(meta.client, meta.blob);
        // A client has one partial upload: a new one takes the place of another.
        let abandoned = slot.replace(&path);
        let (size, layout) = (meta.size_bytes, target.layout.clone());
        let opened = spawn_blocking(move || {
            if let Some(abandoned) = abandoned {
                spool::remove(&abandoned);
            }
            Spool::open(path, size, layout)
        });
        Ok(opened.await.map_err(|_| CallError::CutOff)??)
    }

    /// Digest, full check, and the move to where blobs lie. A rejected file is removed.
    async fn finish(&self, spool: Spool, meta: UpdateMeta, target: Target) -> Result<Option<Rejection>, CallError> {
        // Those before this one need nobody but the disk, so the wait ends.
        let _turn = self.uploads.judging.acquire().await.map_err(|_| CallError::CutOff)?;
        let (rounds, distance) = (self.rounds.clone(), self.settings.max_factor_distance);
        let judged = spawn_blocking(move || {
            let path = spool.path().to_owned();
            let judged = spool
                .verify(meta.blob)
                .and_then(|()| check_update(&path, &target.round.plan, &target.global, &meta, distance));
            match judged {
                Ok(()) => rounds.adopt(&path, meta.blob).map(|()| None).map_err(CallError::Rounds),
                Err(CheckError::Rejected(rejection)) => {
                    spool::remove(&path);
                    Ok(Some(rejection))
                }
                Err(CheckError::Damaged) => {
                    spool::remove(&path);
                    Err(CallError::SpoolDamaged)
                }
                Err(CheckError::Io(error)) => Err(error.into()),
            }
        });
        judged.await.map_err(|_| CallError::CutOff)?
    }

    async fn refuse(&self, meta: UpdateMeta, rejection: Rejection) -> Result<Receipt, CallError> {
        Ok(self.rounds.refuse(meta, rejection.code, rejection.detail).await?)
    }
}
