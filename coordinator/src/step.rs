//! The server step: a round's accepted update files into the next global adapter.
//!
//! Files are mapped or read, never held, and so are the previous adapter and the new one: parts go to threads a few at a
//! time, and from there into the new file. Clients count in the order of their numbers. The same updates therefore give
//! the same bytes, whatever the order of arrival, the threads and the restarts in between, and the same as the simulator
//! makes of them.

use std::{io, sync::Arc};

use fedlora_adapter::{Adapter, AdapterError, AdapterWriter, Digest, DistanceSum, RoundId, UpdateFile};
use fedlora_aggregation::{AggregationError, Destination, Part, Strategy, WeightedUpdate, Weighting};
use fedlora_privacy::Origin;
use rayon::prelude::*;

use crate::{
    Blobs, RunId, StoreError, UpdateMeta,
    central::{StepPrivacy, server_step_into, step_weight},
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

/// The next global adapter, its values in its durable file, and what is worth knowing of the step.
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

/// Bytes that a step may have in memory at a time, of all updates and of the adapter that comes of them.
const BATCH_BYTES: usize = 32 << 20;

impl StepTask {
    /// Does the step: reads the updates, combines them, writes the new adapter. Takes long; needs no lock.
    #[must_use]
    pub fn perform(&self) -> StepOutcome {
        StepOutcome { run: self.run, round: self.round, result: self.result() }
    }

    fn result(&self) -> Result<StepResult, StepError> {
        let privacy = self.privacy.as_ref();
        let files = self.files().map_err(StepError::Update)?;
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
        let draft = self.blobs.begin()?;
        let mut into = IntoFile { writer: draft.adapter(self.global.spec())?, distance: DistanceSum::default() };
        let step = server_step_into(privacy, &*self.strategy, self.round, &self.global, &weighted, &mut into);
        let (residual, release) = step.map_err(|error| match error {
            AggregationError::Adapter(error) if draft.is_in(&error) => draft.failed(error).into(),
            error => StepError::from(error),
        })?;
        let IntoFile { writer, distance } = into;
        // Means of losses are no part of what the noise is for.
        let loss = loss.filter(|_| release.is_none());
        let (written, adapter) = draft.adopt(writer)?;
        Ok(StepResult {
            adapter: Arc::new(adapter),
            digest: written.adapter(),
            blob: written.content(),
            blob_bytes: written.bytes(),
            update_norm: distance.distance(),
            residual: residual.filter(|residual| residual.is_finite()),
            train_loss: loss.map(|loss| loss / total).filter(|loss| loss.is_finite()),
            bytes_up: self.updates.iter().map(|update| update.size_bytes).sum(),
            release: release.zip(privacy.map(|privacy| privacy.origin)),
        })
    }

    /// The accepted updates. Mapped, which is twice as fast as reading, where that costs no more memory than a batch may:
    /// what was looked at stays until the batch is done, and there is one module on each thread. Private steps go
    /// through whole updates instead.
    fn files(&self) -> Result<Vec<UpdateFile>, AdapterError> {
        let directive = self.strategy.directive(self.round);
        let part_bytes = self.updates.len() * self.largest_part_bytes();
        let is_mapped = self.privacy.is_none() && part_bytes * rayon::current_num_threads() <= BATCH_BYTES;
        let open = |update: &UpdateMeta| {
            let file = UpdateFile::open_checked(&self.blobs.path(update.blob), self.global.spec(), directive)?;
            if is_mapped { file.mapped() } else { Ok(file) }
        };
        self.updates.par_iter().map(open).collect()
    }

    fn largest_part_bytes(&self) -> usize {
        let modules = self.global.modules().values();
        let modules = modules.map(|factors| factors.a.values().len() + factors.b.values().len());
        let extras = self.global.head().values().map(|tensor| tensor.values().len());
        size_of::<f32>() * modules.chain(extras).max().unwrap_or(0)
    }
}

/// Parts of the new adapter on their way into its file, and how far they are from the previous ones.
struct IntoFile {
    writer: AdapterWriter,
    distance: DistanceSum,
}

impl Destination for IntoFile {
    fn batch_bytes(&self) -> usize {
        BATCH_BYTES
    }

    fn take(&mut self, parts: Vec<Part<'_>>) -> Result<(), AggregationError> {
        let Self { writer, distance } = self;
        let write = || {
            parts.iter().try_for_each(|part| match part {
                Part::Module { name, factors, .. } => writer.module(name, factors),
                Part::Extra { name, tensor, .. } => writer.extra(name, tensor),
            })
        };
        let measure = || {
            for part in &parts {
                match part {
                    Part::Module { previous, factors, .. } => distance.add_module(previous, factors),
                    Part::Extra { previous, tensor, .. } => distance.add_extra(previous, tensor),
                }
            }
        };
        let (written, ()) = rayon::join(write, measure);
        for part in &parts {
            match part {
                Part::Module { previous, .. } => previous.release(),
                Part::Extra { previous, .. } => previous.release(),
            }
        }
        Ok(written?)
    }
}
