//! What operators may read: the messages of the operator's service, from the live state and the records.
//!
//! Names of clients stay empty: only the registry of identities knows them.

use std::collections::BTreeMap;

use fedlora_adapter::{Adapter, ClientId, Digest, PeftOptions, RoundId};
use fedlora_proto::operator::{Checkpoint, Event, RoundClient, RoundDetail, RoundMetrics, RoundSummary, RunSummary};

use super::{Engine, EngineError, central, live::Live, plan};
use crate::{
    Phase, RunId, RunStatus, Standing, Tally, UpdateMeta,
    config::CentralRelease,
    store::{RoundRecord, RunRecord},
};

impl Engine {
    /// All runs, youngest first.
    ///
    /// # Errors
    /// The store fails.
    pub fn runs(&mut self) -> Result<Vec<RunSummary>, EngineError> {
        let runs = self.records.runs(usize::MAX)?;
        Ok(runs.iter().map(|(id, record)| self.summary(*id, record)).collect())
    }

    /// One run.
    ///
    /// # Errors
    /// There is no such run; the store fails.
    pub fn run_summary(&mut self, run: RunId) -> Result<RunSummary, EngineError> {
        let record = self.records.run(run)?.ok_or(EngineError::UnknownRun(run))?;
        Ok(self.summary(run, &record))
    }

    /// Rounds of a run, or of the live or last one, youngest first; at most `limit`, 0 for all.
    ///
    /// # Errors
    /// There is no such run; the store fails.
    pub fn rounds(&mut self, run: Option<RunId>, limit: usize) -> Result<Vec<RoundSummary>, EngineError> {
        let run = self.resolve(run)?;
        let limit = if limit == 0 { usize::MAX } else { limit };
        let rounds = self.records.rounds(run, limit)?;
        Ok(rounds.iter().map(|(round, record)| self.round_summary(run, *round, record)).collect())
    }

    /// A round with its clients; the open or last one if none is named.
    ///
    /// # Errors
    /// There is no such run or round; the store fails.
    pub fn round_detail(&mut self, run: Option<RunId>, round: Option<RoundId>) -> Result<RoundDetail, EngineError> {
        let run = self.resolve(run)?;
        let (round, record) = match round {
            Some(round) => (round, self.records.round(run, round)?),
            None => match self.records.rounds(run, 1)?.pop() {
                Some((round, record)) => (round, Some(record)),
                None => (RoundId(0), None),
            },
        };
        let record = record.ok_or(EngineError::UnknownRound { run, round })?;
        let clients = self.round_clients(run, round, &record)?;
        Ok(RoundDetail { summary: Some(self.round_summary(run, round, &record)), clients })
    }

    /// Clients that have an open session, or of which an update ever counted.
    ///
    /// # Errors
    /// The store fails.
    pub fn standings(&mut self) -> Result<BTreeMap<ClientId, Standing>, EngineError> {
        let mut standings: BTreeMap<ClientId, Standing> = BTreeMap::new();
        for client in self.records.accepted_clients()? {
            standings.entry(client).or_default().rounds_accepted += 1;
        }
        for client in self.sessions.clients() {
            standings.entry(client).or_default().connected = true;
        }
        Ok(standings)
    }

    /// Events after a number, oldest first.
    ///
    /// # Errors
    /// The store fails.
    pub fn events(&mut self, after: u64, limit: usize) -> Result<Vec<Event>, EngineError> {
        let events = self.records.events(after, limit)?;
        let message = |(number, entry): (u64, crate::store::LogEntry)| Event {
            number,
            time_ms: entry.time.0,
            run_id: entry.run.0,
            round: entry.round.0,
            client_id: entry.client.map(|client| client.0),
            kind: entry.kind.as_str().to_owned(),
            detail: entry.detail,
        };
        Ok(events.into_iter().map(message).collect())
    }

    /// Metrics of published rounds after one, oldest first.
    ///
    /// # Errors
    /// There is no such run; the store fails.
    pub fn metrics(&mut self, run: Option<RunId>, after_round: u64) -> Result<Vec<RoundMetrics>, EngineError> {
        let run = self.resolve(run)?;
        let rounds = self.records.rounds_after(run, RoundId(after_round))?;
        Ok(rounds.iter().filter_map(|(round, record)| self.round_metrics(run, *round, record)).collect())
    }

    /// Published adapters of a run, oldest first.
    ///
    /// # Errors
    /// There is no such run; the store fails.
    pub fn checkpoints(&mut self, run: Option<RunId>) -> Result<Vec<Checkpoint>, EngineError> {
        let run = self.resolve(run)?;
        let checkpoints = self.records.checkpoints(run)?;
        let message = |(round, record): (RoundId, crate::store::CheckpointRecord)| Checkpoint {
            run_id: run.0,
            round: round.0,
            blob: record.blob.to_hex(),
            size_bytes: record.size_bytes,
            time_ms: record.time.0,
        };
        Ok(checkpoints.into_iter().map(message).collect())
    }

    /// A published adapter, the last one if no round is named, and what its PEFT files say about the base model.
    ///
    /// # Errors
    /// There is no such run or checkpoint; its file is missing or damaged; the store fails.
    pub fn export(
        &mut self,
        run: Option<RunId>,
        round: Option<RoundId>,
    ) -> Result<(Adapter, PeftOptions), EngineError> {
        let run = self.resolve(run)?;
        let record = self.records.run(run)?.ok_or(EngineError::UnknownRun(run))?;
        let round = round.unwrap_or(record.done);
        let checkpoint = self.records.checkpoint(run, round)?.ok_or(EngineError::NoCheckpoint { run, round })?;
        let options = plan::peft_options(&plan::from_toml(&record.config)?, &record.model);
        Ok((Live::adapter(&record, &checkpoint, &self.blobs)?, options))
    }

    /// What the server released in a published round of the last run; none where it adds no noise.
    ///
    /// # Errors
    /// There was no run; the store fails.
    pub fn release(&mut self, round: RoundId) -> Result<Option<CentralRelease>, EngineError> {
        let run = self.resolve(None)?;
        let record = self.records.round(run, round)?;
        Ok(record.and_then(|record| record.outcome).and_then(|outcome| outcome.release))
    }

    /// The run asked for, or the live one, or the last one.
    fn resolve(&mut self, run: Option<RunId>) -> Result<RunId, EngineError> {
        match run {
            Some(run) => self.records.run(run)?.map(|_| run).ok_or(EngineError::UnknownRun(run)),
            // A live run is always the youngest.
            None => self.records.runs(1)?.first().map(|(run, _)| *run).ok_or(EngineError::NoRun),
        }
    }

    fn live_run(&self, run: RunId) -> Option<&Live> {
        self.live.as_ref().filter(|live| live.id == run)
    }

    fn summary(&self, id: RunId, record: &RunRecord) -> RunSummary {
        let status = self.live_run(id).map_or(record.status, |live| live.run.status());
        RunSummary {
            run_id: id.0,
            name: record.name.clone(),
            status: status_word(status).to_owned(),
            method: record.method.clone(),
            rounds_done: record.done.0,
            num_rounds: record.num_rounds,
            created_ms: record.created.0,
            finished_ms: record.finished.map_or(0, |time| time.0),
            reason: record.reason.clone(),
            privacy: central::run_privacy(record),
        }
    }

    /// Phase and counts of a round: the live state's while it is open, the record's afterwards.
    fn state(&self, run: RunId, round: RoundId, record: &RoundRecord) -> (&'static str, Tally) {
        if let Some(outcome) = &record.outcome {
            return (if outcome.adapter.is_some() { "published" } else { "failed" }, outcome.tally);
        }
        let open = self.live_run(run).and_then(|live| live.run.round()).filter(|open| open.id() == round);
        open.map_or(("collecting", Tally::default()), |open| (phase_word(open.phase()), open.tally()))
    }

    fn round_summary(&self, run: RunId, round: RoundId, record: &RoundRecord) -> RoundSummary {
        let (phase, tally) = self.state(run, round, record);
        let outcome = record.outcome.as_ref();
        RoundSummary {
            run_id: run.0,
            round: round.0,
            phase: phase.to_owned(),
            invited: record.cohort.len() as u64,
            accepted: tally.accepted,
            rejected: tally.rejected,
            late: tally.late,
            dropped: tally.dropped,
            opened_ms: record.opened.0,
            ended_ms: record.ended.map_or(0, |time| time.0),
            deadline_ms: record.deadline.map_or(0, |time| time.0),
            train_loss: outcome.and_then(|outcome| outcome.train_loss),
            adapter: outcome.and_then(|outcome| outcome.adapter).map(Digest::to_hex).unwrap_or_default(),
        }
    }

    fn round_metrics(&self, run: RunId, round: RoundId, record: &RoundRecord) -> Option<RoundMetrics> {
        let outcome = record.outcome.as_ref().filter(|outcome| outcome.adapter.is_some())?;
        Some(RoundMetrics {
            summary: Some(self.round_summary(run, round, record)),
            update_norm: outcome.update_norm,
            aggregation_residual: outcome.residual,
            bytes_up: outcome.bytes_up,
            bytes_down: record.blob_bytes * record.cohort.len() as u64,
            duration_ms: record.ended.map_or(0, |ended| ended.0.saturating_sub(record.opened.0)),
            aggregation_ms: outcome.aggregation_ms,
        })
    }

    fn round_clients(
        &mut self,
        run: RunId,
        round: RoundId,
        record: &RoundRecord,
    ) -> Result<Vec<RoundClient>, EngineError> {
        let updates = self.records.updates(run, round)?;
        let rejections = self.records.rejections(run, round)?;
        let live = self.live_run(run).and_then(|live| live.run.round()).filter(|open| open.id() == round);
        let late = |client: &ClientId| match &record.outcome {
            Some(outcome) => outcome.late.contains(client),
            None => live.is_some_and(|open| open.late().contains(client)),
        };
        let clients = record.cohort.iter().map(|client| {
            let row = RoundClient { client_id: client.0, ..RoundClient::default() };
            // In client order, as they are kept.
            if let Ok(place) = updates.binary_search_by_key(client, |update| update.client) {
                return accepted(row, &updates[place]);
            }
            if let Some(rejection) = rejections.get(client) {
                let reason = rejection.reason.as_str().to_owned();
                return RoundClient { state: "rejected".to_owned(), reason, ..row };
            }
            let is_awaited = live.is_some_and(|open| open.waiting().contains(client));
            let session = self.sessions.get(*client).filter(|_| is_awaited);
            let progress = session.and_then(|session| session.progress).filter(|(training, _)| *training == round);
            let state = match progress {
                _ if late(client) => "late",
                Some(_) => "training",
                None if is_awaited => "waiting",
                None => "gone",
            };
            RoundClient { state: state.to_owned(), steps: progress.map_or(0, |(_, steps)| steps), ..row }
        });
        Ok(clients.collect())
    }
}

fn accepted(row: RoundClient, update: &UpdateMeta) -> RoundClient {
    RoundClient {
        state: "accepted".to_owned(),
        examples: update.examples,
        steps: update.steps,
        train_loss: update.train_loss,
        digest: update.blob.to_hex(),
        ..row
    }
}

fn status_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pending => "pending",
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Completed => "completed",
        RunStatus::Stopped => "stopped",
        RunStatus::Failed(_) => "failed",
    }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Collecting => "collecting",
        Phase::Closed => "closed",
        Phase::Aggregated(_) => "aggregated",
        Phase::Published(_) => "published",
        Phase::Failed(_) => "failed",
    }
}
