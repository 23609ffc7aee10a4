//! The run that is live: its state, its global adapter, and the records that every change of it leaves.

mod central;
mod log;

use std::{collections::BTreeSet, sync::Arc};

use fedlora_adapter::{Adapter, AdapterError, ClientId, Digest, LocalHyperparameters, RoundId, RoundPlan};
use fedlora_aggregation::Strategy;

use super::{EngineError, EventKind, plan};
use crate::{
    Blobs, CurrentRound, CurrentRun, FailureReason, Phase, Round, RoundEvent, Run, RunEffect, RunEvent, RunId,
    RunStatus, StoreError, Timestamp,
    config::{CentralPlan, RunConfig},
    step::StepResult,
    store::{CheckpointRecord, Records, RoundOutcome, RoundRecord, RunRecord, Snapshot},
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

    fn opened(
        &mut self,
        log: &mut Log<'_>,
        round: RoundId,
        cohort: Vec<ClientId>,
        told: &mut Told,
    ) -> Result<(), StoreError> {
        log.round = round;
        let record = RoundRecord {
            opened: log.now,
            deadline: self.run.round().and_then(Round::deadline),
            blob: self.checkpoint.blob,
            blob_bytes: self.checkpoint.size_bytes,
            closed: None,
            ended: None,
            outcome: None,
            cohort,
        };
        log.records.put_round(self.id, round, &record)?;
        let deadline = record.deadline.map_or("none".to_owned(), |time| time.0.to_string());
        log.add(EventKind::RoundOpened, None, format!("invited={} deadline_ms={deadline}", record.cohort.len()))?;
        tracing::info!(run = self.id.0, round = round.0, invited = record.cohort.len(), "round opened");
        self.declined.clear();
        self.reopen(record, round);
        told.has_changed = true;
        Ok(())
    }

    fn current_round(&self, round: RoundId, record: &RoundRecord) -> Arc<CurrentRound> {
        let plan = RoundPlan {
            run: self.record.name.clone(),
            round,
            num_rounds: self.record.num_rounds,
            directive: self.strategy.directive(round),
            spec: self.spec,
            base: self.checkpoint.adapter,
            seed: self.config.seed,
            local: self.local.clone(),
        };
        Arc::new(CurrentRound {
            run: self.id,
            plan: Arc::new(plan),
            blob: record.blob,
            blob_bytes: record.blob_bytes,
            deadline: record.deadline,
        })
    }

    fn closed(&mut self, log: &mut Log<'_>, told: &mut Told) -> Result<(), StoreError> {
        let tally = self.run.tally();
        let detail = format!("accepted={} rejected={} dropped={}", tally.accepted, tally.rejected, tally.dropped);
        log.add(EventKind::RoundClosed, None, detail)?;
        if let Some(round) = &mut self.round {
            round.record.closed = Some(log.now);
            log.records.put_round(self.id, log.round, &round.record)?;
        }
        (told.has_closed, told.has_changed) = (true, true);
        Ok(())
    }

    /// Writes down how the round ended. Returns how long the server step took, by the close.
    fn close_record(
        &mut self,
        records: &mut Records,
        result: Option<&StepResult>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let number = self.round_number();
        let Some(round) = &mut self.round else { return Ok(0) };
        let aggregation_ms = round.record.closed.map_or(0, |closed| now.0.saturating_sub(closed.0));
        round.record.ended = Some(now);
        round.record.outcome = Some(RoundOutcome {
            tally: self.run.tally(),
            late: self.run.round().map(|round| round.late().iter().copied().collect()).unwrap_or_default(),
            adapter: result.map(|result| result.digest),
            train_loss: result.and_then(|result| result.train_loss),
            update_norm: result.map_or(0.0, |result| result.update_norm),
            residual: result.and_then(|result| result.residual),
            bytes_up: result.map_or(0, |result| result.bytes_up),
            aggregation_ms,
            release: result.and_then(|result| result.release).map(|(release, _)| release),
        });
        records.put_round(self.id, number, &round.record)?;
        Ok(aggregation_ms)
    }

    fn finished(&mut self, log: &mut Log<'_>, status: RunStatus, told: &mut Told) -> Result<(), StoreError> {
        let kind = match status {
            RunStatus::Completed => EventKind::RunCompleted,
            RunStatus::Failed(_) => EventKind::RunFailed,
            _ => EventKind::RunStopped,
        };
        if let RunStatus::Failed(reason) = status {
            self.record.reason = match reason {
                FailureReason::TooFewResults { accepted, needed } => {
                    format!("{} failed: {accepted} updates accepted, {needed} needed", log.round)
                }
                FailureReason::ServerStep => self.failure.clone().unwrap_or_default(),
            };
            self.close_record(log.records, None, log.now)?;
            told.forget = self.spent_files(log.records, log.round)?;
            let detail = format!("reason={:?}", self.record.reason);
            log.add(EventKind::RoundFailed, None, detail)?;
        }
        self.record.status = status;
        self.record.finished = Some(log.now);
        log.records.put_run(self.id, &self.record)?;
        log.add(kind, None, format!("rounds={}", self.record.done.0))?;
        tracing::info!(run = self.id.0, status = kind.as_str(), reason = self.record.reason, "run over");
        told.finished = Some(status);
        told.has_changed = true;
        Ok(())
    }

    /// Files of a round's updates, once their values are in an adapter or never will be. One that is an adapter too,
    /// as with a single client, stays.
    fn spent_files(&self, records: &mut Records, round: RoundId) -> Result<Vec<Digest>, StoreError> {
        let updates = records.updates(self.id, round)?;
        Ok(updates.iter().map(|update| update.blob).filter(|blob| !self.published.contains(blob)).collect())
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
