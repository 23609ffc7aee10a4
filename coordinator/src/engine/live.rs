//! The run that is live: its state, its global adapter, and the records that every change of it leaves.

mod central;
mod log;
mod rounds;

use std::{collections::BTreeSet, sync::Arc};

use fedlora_adapter::{Adapter, AdapterError, ClientId, Digest, LocalHyperparameters, RoundId};
use fedlora_aggregation::Strategy;

use super::{EngineError, EventKind, plan};
use crate::{
    Blobs, CurrentRound, CurrentRun, Phase, Round, RoundEvent, Run, RunEffect, RunEvent, RunId, StoreError, Timestamp,
    config::{CentralPlan, RunConfig},
    step::StepResult,
    store::{CheckpointRecord, Records, RoundRecord, RunRecord, Snapshot},
};

use log::Log;
pub(crate) use log::{Headline, Told};

/// Events after which a snapshot is taken even if no round was published: reading them again must stay quick.
const EVENTS_PER_SNAPSHOT: u64 = 1_000;

/// A live run.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: RunId,
    pub(crate) record: RunRecord,
    pub(crate) config: RunConfig,
    pub(crate) strategy: Arc<dyn Strategy>,
    pub(crate) run: Run,
    pub(crate) current: Arc<CurrentRun>,
    pub(crate) global: Arc<Adapter>,
    /// Its file.
    pub(crate) checkpoint: CheckpointRecord,
    /// The open round, or the last one.
    pub(crate) round: Option<OpenRound>,
    /// Clients that declined the open round.
    pub(crate) declined: BTreeSet<ClientId>,
    /// Why the server step failed for good.
    pub(crate) failure: Option<String>,
    /// Files that are published adapters, of this run or another.
    published: BTreeSet<Digest>,
    local: LocalHyperparameters,
    central: Option<CentralPlan>,
    spec: Digest,
    snapshot_event: u64,
}

/// A round as clients and records know it.
#[derive(Debug)]
pub(crate) struct OpenRound {
    pub(crate) current: Arc<CurrentRound>,
    pub(crate) record: RoundRecord,
}

impl Live {
    /// A run from its records.
    pub(crate) fn new(
        id: RunId,
        record: RunRecord,
        run: Run,
        checkpoint: CheckpointRecord,
        global: Adapter,
        published: BTreeSet<Digest>,
    ) -> Result<Self, EngineError> {
        let config = plan::from_toml(&record.config)?;
        let spec = Arc::clone(global.spec());
        let current = CurrentRun {
            id,
            name: record.name.clone(),
            spec: Arc::clone(&spec),
            base_model: record.model.digest,
            labels: record.model.labels.clone(),
            peft: plan::peft_options(&config, &record.model),
        };
        let (strategy, central): (Arc<dyn Strategy>, _) = (Arc::from(config.strategy()?), plan::central(&config)?);
        if let Some(warning) = plan::drowned(central.as_ref(), &spec, strategy.directive(RoundId(1))) {
            tracing::warn!(run = id.0, warning);
        }
        Ok(Self {
            id,
            strategy,
            local: config.local()?,
            central,
            config,
            run,
            current: Arc::new(current),
            global: Arc::new(global),
            checkpoint,
            round: None,
            declined: BTreeSet::new(),
            failure: None,
            published,
            spec: spec.digest(),
            snapshot_event: 0,
            record,
        })
    }

    /// Restores what clients know of the open or last round from its record.
    pub(crate) fn reopen(&mut self, record: RoundRecord, round: RoundId) {
        let current = self.current_round(round, &record);
        self.round = Some(OpenRound { current, record });
    }

    /// The round that is collecting.
    pub(crate) fn collecting(&self) -> Option<&Arc<CurrentRound>> {
        self.run.round().filter(|round| round.phase() == Phase::Collecting)?;
        self.round.as_ref().map(|round| &round.current)
    }

    /// Tells the run something and records what follows.
    pub(crate) fn tell(
        &mut self,
        records: &mut Records,
        event: RunEvent,
        headline: Headline,
        now: Timestamp,
    ) -> Result<Told, StoreError> {
        // Asked first: what happened belongs to the round before, even where the next one opens in consequence.
        let round = self.round_number();
        let effects = self.run.handle(event, now);
        self.record(records, round, event, effects, headline, now)
    }

    /// As [`Live::tell`], for an event that the run was told already, in this round.
    pub(crate) fn record(
        &mut self,
        records: &mut Records,
        round: RoundId,
        event: RunEvent,
        effects: Vec<RunEffect>,
        headline: Headline,
        now: Timestamp,
    ) -> Result<Told, StoreError> {
        let mut told = Told::default();
        let mut log = Log { records, run: self.id, round, now, input: Some(event) };
        if let Some(kind) = headline.kind {
            log.add(kind, headline.client, headline.detail)?;
        }
        for effect in effects {
            match effect {
                RunEffect::Reply(_, verdict) => told.verdict = Some(verdict),
                RunEffect::Invite(round, cohort) => self.opened(&mut log, round, cohort, &mut told)?,
                RunEffect::Aggregate(..) => self.closed(&mut log, &mut told)?,
                RunEffect::Finished(status) => self.finished(&mut log, status, &mut told)?,
                // Publication is [`Live::publish`]; times to wake are asked of the run.
                RunEffect::Publish(..) | RunEffect::WakeAt(_) => {}
            }
        }
        if records.last_event() >= self.snapshot_event + EVENTS_PER_SNAPSHOT {
            self.snapshot(records)?;
        }
        Ok(told)
    }

    /// Installs the result of the server step: aggregated, checkpointed, published and the next round opened, in one
    /// transaction.
    pub(crate) fn publish(
        &mut self,
        records: &mut Records,
        result: StepResult,
        now: Timestamp,
    ) -> Result<Told, StoreError> {
        let round = self.round_number();
        let event = RunEvent::Round(RoundEvent::Aggregated(result.digest));
        let effects = self.run.handle(event, now);
        let detail = format!("adapter={} update_norm={:e}", result.digest.to_hex(), result.update_norm);
        let headline = Headline::new(EventKind::RoundAggregated).detail(detail);
        let mut told = self.record(records, round, event, effects, headline, now)?;
        let aggregation_ms = self.close_record(records, Some(&result), now)?;
        self.checkpoint =
            CheckpointRecord { blob: result.blob, size_bytes: result.blob_bytes, adapter: result.digest, time: now };
        records.put_checkpoint(self.id, round, &self.checkpoint)?;
        self.published.insert(result.blob);
        told.forget = self.spent_files(records, round)?;
        self.charge(result.release)?;
        self.global = result.adapter;
        self.record.done = round;
        records.put_run(self.id, &self.record)?;
        let tally = self.run.tally();
        tracing::info!(
            run = self.id.0,
            round = round.0,
            accepted = tally.accepted,
            rejected = tally.rejected,
            late = tally.late,
            dropped = tally.dropped,
            aggregation_ms,
            train_loss = result.train_loss,
            "round published"
        );
        let detail = format!("blob={} bytes={}", result.blob.to_hex(), result.blob_bytes);
        let headline = Headline::new(EventKind::RoundPublished).detail(detail);
        let next = self.tell(records, RunEvent::Round(RoundEvent::Published), headline, now)?;
        self.snapshot(records)?;
        Ok(Told { forget: told.forget, has_changed: true, ..next })
    }

    /// Records the state after all events so far.
    pub(crate) fn snapshot(&mut self, records: &mut Records) -> Result<(), StoreError> {
        self.snapshot_event = records.last_event();
        let (run, declined) = (self.run.clone(), self.declined.clone());
        records.put_snapshot(self.id, &Snapshot { event: self.snapshot_event, run, declined })
    }

    /// The open or last round; 0 before the first.
    pub(crate) fn round_number(&self) -> RoundId {
        self.run.round().map_or(RoundId(0), Round::id)
    }

    /// The global adapter of a checkpoint, checked; its values stay in the file.
    pub(crate) fn adapter(
        record: &RunRecord,
        checkpoint: &CheckpointRecord,
        blobs: &Blobs,
    ) -> Result<Adapter, EngineError> {
        let config = plan::from_toml(&record.config)?;
        let spec = plan::spec(&config, &record.model)?;
        // A file that is not there is another matter than one that is damaged.
        blobs.size(checkpoint.blob)?;
        let path = blobs.path(checkpoint.blob);
        fedlora_adapter::map_adapter(&path, &spec, checkpoint.adapter).map_err(|source| {
            let source = match source {
                // The path is said once.
                AdapterError::InFile { source, .. } => source,
                source => Box::new(source),
            };
            StoreError::Adapter { path, source }.into()
        })
    }
}
