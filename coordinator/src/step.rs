//! The server step: a round's accepted update files into the next global adapter.
//!
//! Files are mapped or read, never held; modules go to threads; clients count in the order of their numbers. The same
//! updates therefore give the same bytes, whatever the order of arrival, the threads and the restarts in between, and
//! the same as the simulator makes of them.

use std::{io, sync::Arc};

use fedlora_adapter::{Adapter, AdapterError, AdapterFile, Digest, RoundId, UpdateFile};
use fedlora_aggregation::{Aggregated, AggregationError, Strategy, WeightedUpdate, Weighting};
use fedlora_privacy::Origin;
use rayon::prelude::*;

use crate::{
    Blobs, RunId, StoreError, UpdateMeta,
    central::{StepPrivacy, server_step, step_weight},
    config::CentralRelease,
};

/// A server step that is due. It owns what it needs, so that it can be done on any thread.
#[derive(Debug, Clone)]
pub struct StepTask {
    pub(crate) run: RunId,
    pub(crate) round: RoundId,
    pub(crate) strategy: Arc<dyn Strategy>,
    pub(crate) weighting: Weighting,
    pub(crate) global: Arc<Adapter>,
    /// In client order.
    pub(crate) updates: Vec<UpdateMeta>,
    pub(crate) blobs: Blobs,
    /// Where the server adds noise.
    pub(crate) privacy: Option<StepPrivacy>,
}

/// What a server step came to.
#[derive(Debug)]
pub struct StepOutcome {
    pub(crate) run: RunId,
    pub(crate) round: RoundId,
    pub(crate) result: Result<StepResult, StepError>,
}

/// The next global adapter, its durable file, and what is worth knowing of the step.
#[derive(Debug)]
pub(crate) struct StepResult {
    pub(crate) adapter: Arc<Adapter>,
    pub(crate) digest: Digest,
    pub(crate) blob: Digest,
    pub(crate) blob_bytes: u64,
    pub(crate) update_norm: f64,
    pub(crate) residual: Option<f64>,
    pub(crate) train_loss: Option<f64>,
    pub(crate) bytes_up: u64,
    /// What was released, and where its noise came from.
    pub(crate) release: Option<(CentralRelease, Origin)>,
}

/// Why there is no next global adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The file of an accepted update cannot be read, or does not hold what was accepted.
    #[error("an accepted update")]
    Update(#[source] AdapterError),
    /// The updates could not be combined.
    #[error("combining the updates")]
    Aggregation(#[from] AggregationError),
    /// The new adapter cannot be kept.
    #[error("the new adapter")]
    Store(#[from] StoreError),
}

impl StepError {
    /// Whether the same step may succeed later: the disk is full or failed, which an operator can mend. What the
    /// updates themselves lead to will be the same again, and a file that is gone does not come back.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Update(error) => is_transient_adapter(error),
            Self::Aggregation(error) => is_transient_aggregation(error),
            Self::Store(error) => matches!(error, StoreError::Io { .. }),
        }
    }
}

fn is_transient_adapter(error: &AdapterError) -> bool {
    match error {
        AdapterError::Io { source, .. } => {
            !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        }
        AdapterError::InFile { source, .. } => is_transient_adapter(source),
        _ => false,
    }
}

fn is_transient_aggregation(error: &AggregationError) -> bool {
    match error {
        AggregationError::Adapter(error) => is_transient_adapter(error),
        AggregationError::InModule { source, .. } => is_transient_aggregation(source),
        _ => false,
    }
}

/// Bytes of one module of all updates up to which the files are mapped, which is twice as fast as reading them. What is
/// mapped counts as memory while a module is combined, on each thread: with a thousand clients that would be a gigabyte.
const MAPPED_BYTES: usize = 64 << 20;

impl StepTask {
    /// Does the step: reads the updates, combines them, writes the new adapter. Takes long; needs no lock.
    #[must_use]
    pub fn perform(&self) -> StepOutcome {
        StepOutcome { run: self.run, round: self.round, result: self.result() }
    }

    fn result(&self) -> Result<StepResult, StepError> {
        let directive = self.strategy.directive(self.round);
        let is_mapped = self.updates.len() * self.largest_module_bytes() <= MAPPED_BYTES;
        let open = |update: &UpdateMeta| {
            let file = UpdateFile::open(&self.blobs.path(update.blob), self.global.spec(), directive)?;
            if is_mapped { file.mapped() } else { Ok(file) }
        };
        let files: Vec<UpdateFile> =
            self.updates.par_iter().map(open).collect::<Result<_, _>>().map_err(StepError::Update)?;
        let privacy = self.privacy.as_ref();
        let weight = |update: &UpdateMeta| step_weight(privacy, self.weighting, update.examples);
        let weighted: Vec<WeightedUpdate<'_>> = self
            .updates
            .iter()
            .zip(&files)
            .map(|(update, file)| WeightedUpdate { client: update.client, weight: weight(update), update: file })
            .collect();
        let total: f64 = self.updates.iter().map(weight).sum();
        let losses = self.updates.iter().map(|update| Some(weight(update) * update.train_loss?));
        let loss: Option<f64> = losses.sum();
        let (Aggregated { adapter, residual }, release) =
            server_step(privacy, &*self.strategy, self.round, &self.global, &weighted)?;
        // Means of losses are no part of what the noise is for.
        let loss = loss.filter(|_| release.is_none());
        let measure = || rayon::join(|| adapter.digest(), || self.global.distance(&adapter));
        // Written from where it lies: the previous adapter and the new one are all that is in memory.
        let (written, (digest, update_norm)) = rayon::join(|| self.write(&adapter), measure);
        let (blob, blob_bytes) = written?;
        Ok(StepResult {
            adapter: Arc::new(adapter),
            digest,
            blob,
            blob_bytes,
            update_norm,
            residual: residual.filter(|residual| residual.is_finite()),
            train_loss: loss.map(|loss| loss / total).filter(|loss| loss.is_finite()),
            bytes_up: self.updates.iter().map(|update| update.size_bytes).sum(),
            release: release.zip(privacy.map(|privacy| privacy.origin)),
        })
    }

    fn largest_module_bytes(&self) -> usize {
        let values = self.global.modules().values().map(|factors| factors.a.values().len() + factors.b.values().len());
        size_of::<f32>() * values.max().unwrap_or(0)
    }

    /// Makes an adapter's file durable; its digest and size.
    fn write(&self, adapter: &Adapter) -> Result<(Digest, u64), StepError> {
        let file = AdapterFile::new(adapter).map_err(AggregationError::from)?;
        let pieces: Vec<&[u8]> = file.pieces().collect();
        Ok((self.blobs.write_pieces(&pieces)?, file.bytes()))
    }
}
