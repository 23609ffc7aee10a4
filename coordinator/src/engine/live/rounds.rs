//! What a round's beginning and end leave in the records.

use std::sync::Arc;

use fedlora_adapter::{ClientId, Digest, RoundId, RoundPlan};

use super::{
    Live,
    log::{Log, Told},
};
use crate::{
    CurrentRound, FailureReason, Round, RunStatus, StoreError, Timestamp,
    engine::EventKind,
    step::StepResult,
    store::{Records, RoundOutcome, RoundRecord},
};

impl Live {
    pub(super) fn opened(
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

    pub(super) fn current_round(&self, round: RoundId, record: &RoundRecord) -> Arc<CurrentRound> {
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

    pub(super) fn closed(&mut self, log: &mut Log<'_>, told: &mut Told) -> Result<(), StoreError> {
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
    pub(super) fn close_record(
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

    pub(super) fn finished(&mut self, log: &mut Log<'_>, status: RunStatus, told: &mut Told) -> Result<(), StoreError> {
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
    pub(super) fn spent_files(&self, records: &mut Records, round: RoundId) -> Result<Vec<Digest>, StoreError> {
        let updates = records.updates(self.id, round)?;
        Ok(updates.iter().map(|update| update.blob).filter(|blob| !self.published.contains(blob)).collect())
    }
}
