//! Beginning, pausing, ending and restoring runs; clients that are to take no further part.

use fedlora_adapter::{Adapter, ClientId, RoundId};

use super::{Answer, Control, Engine, EngineError, EventKind, Headline, live::Live, plan, recover::is_live};
use crate::{
    ModelDescription, Run, RunEvent, RunId, RunStatus, Timestamp,
    config::RunConfig,
    store::{CheckpointRecord, RunRecord},
};

/// A run that is about to begin.
struct Beginning {
    record: RunRecord,
    run: Run,
    global: Adapter,
    detail: String,
}

impl Engine {
    /// Begins a run, unless the same key began one before.
    pub(super) fn start_run(
        &mut self,
        config: &RunConfig,
        model: ModelDescription,
        key: &str,
        now: Timestamp,
    ) -> Result<Answer, EngineError> {
        if !key.is_empty()
            && let Some(run) = self.records.run_of_key(key)?
        {
            return self.answer(run);
        }
        self.refuse_second()?;
        config.validate()?;
        let spec = plan::spec(config, &model)?;
        let beginning = Beginning {
            run: Run::new(plan::settings(config)?, RoundId(0))?,
            global: plan::first_adapter(config, &spec, &model)?,
            detail: format!("method={}", config.method.name),
            record: RunRecord {
                name: config.name.clone(),
                config: plan::to_toml(config)?,
                model,
                method: config.method.name.clone(),
                num_rounds: config.num_rounds,
                created: now,
                done: RoundId(0),
                status: RunStatus::Pending,
                finished: None,
                reason: String::new(),
                account: None,
            },
        };
        self.begin(beginning, key, now)
    }

    /// Begins a run of the same configuration that goes on from a published adapter.
    pub(super) fn restore(&mut self, run: RunId, round: RoundId, now: Timestamp) -> Result<Answer, EngineError> {
        self.refuse_second()?;
        let old = self.records.run(run)?.ok_or(EngineError::UnknownRun(run))?;
        let checkpoint = self.records.checkpoint(run, round)?.ok_or(EngineError::NoCheckpoint { run, round })?;
        let config = plan::from_toml(&old.config)?;
        let beginning = Beginning {
            run: Run::new(plan::settings(&config)?, round)?,
            global: Live::adapter(&old, &checkpoint, &self.blobs)?,
            detail: format!("method={} restored_run={} restored_round={}", old.method, run.0, round.0),
            record: RunRecord {
                created: now,
                done: round,
                status: RunStatus::Pending,
                finished: None,
                reason: String::new(),
                account: None,
                ..old
            },
        };
        self.begin(beginning, "", now)
    }

    fn refuse_second(&self) -> Result<(), EngineError> {
        self.live.as_ref().map_or(Ok(()), |live| Err(EngineError::RunIsLive(live.id)))
    }

    fn begin(&mut self, beginning: Beginning, key: &str, now: Timestamp) -> Result<Answer, EngineError> {
        let Beginning { record, run, global, detail } = beginning;
        self.refuse_beyond_limit(&record)?;
        let id = RunId(self.records.runs(1)?.first().map_or(1, |(last, _)| last.0 + 1));
        let (written, global) = self.blobs.write_adapter(&global)?;
        let checkpoint = CheckpointRecord {
            blob: written.content(),
            size_bytes: written.bytes(),
            adapter: written.adapter(),
            time: now,
        };
        let done = record.done;
        let mut published = self.published()?;
        published.insert(checkpoint.blob);
        let mut live = Live::new(id, record, run, checkpoint, global, published)?;
        // Who is there already takes part from the first round; the snapshot below remembers them.
        for client in self.sessions.clients().filter(|client| !self.drained.contains(client)) {
            live.run.handle(RunEvent::Joined(client), now);
        }
        tracing::info!(run = id.0, name = live.record.name, method = live.record.method, "run started");
        self.live = Some(live);
        let staged = self.stage_beginning(id, done, &checkpoint, key, detail, now);
        // The records may be staged in part only: then nothing of it counts.
        staged.inspect_err(|_| self.lose())?;
        self.answer(id)
    }

    fn stage_beginning(
        &mut self,
        id: RunId,
        done: RoundId,
        checkpoint: &CheckpointRecord,
        key: &str,
        detail: String,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let Some(live) = &mut self.live else { return Ok(()) };
        self.records.put_run(id, &live.record)?;
        self.records.put_checkpoint(id, done, checkpoint)?;
        if !key.is_empty() {
            self.records.put_key(key, id)?;
        }
        self.tell(RunEvent::Start, Headline::new(EventKind::RunStarted).detail(detail), now)?;
        self.sessions.announce_to_all();
        self.live.as_mut().map_or(Ok(()), |live| Ok(live.snapshot(&mut self.records)?))
    }

    /// Pauses, resumes or stops the live run.
    pub(super) fn control(
        &mut self,
        run: Option<RunId>,
        control: Control,
        now: Timestamp,
    ) -> Result<Answer, EngineError> {
        let (id, status) = self.controlled(run)?;
        let is_paused = status == RunStatus::Paused;
        let told = match control {
            Control::Pause if !is_paused => Some((RunEvent::Pause, EventKind::RunPaused)),
            Control::Resume if is_paused => Some((RunEvent::Resume, EventKind::RunResumed)),
            Control::Stop => Some((RunEvent::Stop, EventKind::RunStopping)),
            Control::Pause | Control::Resume => None,
        };
        if let Some((event, kind)) = told {
            self.tell(event, Headline::new(kind), now)?;
        }
        self.answer(id)
    }

    fn controlled(&mut self, run: Option<RunId>) -> Result<(RunId, RunStatus), EngineError> {
        let live = self.live.as_ref().map(|live| (live.id, live.run.status()));
        match (run, live) {
            (None, live) => live.ok_or(EngineError::NoLiveRun),
            (Some(run), Some((id, status))) if id == run => Ok((id, status)),
            (Some(run), _) => {
                let record = self.records.run(run)?.ok_or(EngineError::UnknownRun(run))?;
                // Only one run is ever live, so another one that is not over cannot be.
                debug_assert!(!is_live(record.status));
                Err(EngineError::RunIsOver(run))
            }
        }
    }

    fn answer(&mut self, run: RunId) -> Result<Answer, EngineError> {
        Ok(Answer::Run(Box::new(self.run_summary(run)?)))
    }

    /// Invites a client to no further round, now and after any restart.
    pub(super) fn drain(&mut self, client: ClientId, now: Timestamp) -> Result<Answer, EngineError> {
        if self.drained.insert(client) {
            let put = self.records.put_drained(client);
            self.or_lose(put)?;
        }
        if self.live.as_ref().is_some_and(|live| live.run.clients().contains(&client)) {
            self.tell(RunEvent::Drained(client), Headline::new(EventKind::ClientDrained).client(client), now)?;
        }
        Ok(Answer::Done)
    }

    /// Ends a client's session and its part in the open round, unless its update counts already.
    pub(super) fn expel(&mut self, client: ClientId, now: Timestamp) -> Result<Answer, EngineError> {
        self.sessions.end(client, "revoked");
        self.leave(client, "revoked", now)?;
        Ok(Answer::Done)
    }
}
