//! From records back to the state: the last snapshot, and what came after it.

use std::collections::BTreeSet;

use fedlora_adapter::{ClientId, Digest};

use super::{Engine, EngineError, EventKind, Headline, live::Live};
use crate::{
    Phase, RunEvent, RunId, RunStatus, StoreError, Timestamp,
    store::{RunRecord, Snapshot},
};

/// Events read at a time.
const EVENTS_AT_A_TIME: usize = 4096;

impl Engine {
    /// Reads the state back and derives what is still to be done. Sessions that are open stay open.
    pub(super) fn load(&mut self, now: Timestamp) -> Result<(), EngineError> {
        // Until everything is there, nothing may be built on it.
        self.is_broken = true;
        self.records.reload()?;
        self.drained = self.records.drained()?.into_iter().collect();
        if let Some(entry) = self.records.last_entry()? {
            self.time.at_least(entry.time);
        }
        let now = self.time.observe(now);
        let youngest = self.records.runs(1)?.pop().filter(|(_, record)| is_live(record.status));
        self.live = youngest.map(|(id, record)| self.load_run(id, record)).transpose()?;
        self.is_broken = false;
        let task = self.step_task();
        let task = self.or_lose(task)?;
        self.due.extend(task);
        self.retry = None;
        self.sessions.announce_to_all();
        self.meet_again(now)
    }

    fn load_run(&mut self, id: RunId, record: RunRecord) -> Result<Live, EngineError> {
        let missing = |what: &str| StoreError::Missing { what: format!("{what} of {id}") };
        let snapshot = self.records.snapshot(id)?.ok_or_else(|| missing("the snapshot"))?;
        let Snapshot { mut run, event: mut after, mut declined } = snapshot;
        loop {
            let events = self.records.events(after, EVENTS_AT_A_TIME)?;
            let Some((last, _)) = events.last() else { break };
            after = *last;
            for (_, entry) in events.iter().filter(|(_, entry)| entry.run == id) {
                match entry.kind {
                    EventKind::RoundOpened => declined.clear(),
                    EventKind::ClientDeclined => declined.extend(entry.client),
                    _ => {}
                }
                // The effects were recorded beside the event, or follow from the state.
                drop(entry.input.map(|event| run.handle(event, entry.time)));
            }
        }
        let checkpoint = self.records.checkpoint(id, run.done())?;
        let checkpoint = checkpoint.ok_or_else(|| missing(&format!("the checkpoint of {}", run.done())))?;
        let global = Live::adapter(&record, &checkpoint, &self.blobs)?;
        let mut live = Live::new(id, record, run, checkpoint, global, self.published()?)?;
        live.declined = declined;
        if let Some(round) = live.run.round() {
            let (number, phase) = (round.id(), round.phase());
            if matches!(phase, Phase::Aggregated(_) | Phase::Failed(_)) {
                // Aggregation and publication are one transaction, and so are failure and the end of the run.
                let text = format!("{id} is live in {number}, which is {phase:?}");
                return Err(StoreError::Contradiction(text).into());
            }
            let record = self.records.round(id, number)?.ok_or_else(|| missing(&format!("the record of {number}")))?;
            live.reopen(record, number);
        }
        tracing::info!(run = id.0, round = live.record.done.next().0, events = after, "run goes on");
        Ok(live)
    }

    /// Files that are published adapters.
    pub(super) fn published(&mut self) -> Result<BTreeSet<Digest>, EngineError> {
        Ok(self.records.all_checkpoints()?.into_iter().map(|checkpoint| checkpoint.blob).collect())
    }

    /// Brings clients and run together again: those with a session are in the pool, those without have the reconnect
    /// grace to come back.
    fn meet_again(&mut self, now: Timestamp) -> Result<(), EngineError> {
        let grace_end = now + self.settings.reconnect_grace_ms;
        let Some(live) = &self.live else { return Ok(()) };
        let waiting = live.run.round().map(|round| round.waiting().clone()).unwrap_or_default();
        for client in live.run.clients().union(&waiting) {
            self.sessions.await_return(*client, grace_end);
        }
        let pool = live.run.clients().clone();
        for client in self.sessions.clients().filter(|client| !pool.contains(client)).collect::<Vec<_>>() {
            self.join(client, now)?;
        }
        Ok(())
    }

    /// A client with a session is in the live run's pool, unless it is drained.
    pub(super) fn join(&mut self, client: ClientId, now: Timestamp) -> Result<(), EngineError> {
        let is_new = |live: &Live| !live.run.clients().contains(&client);
        if self.drained.contains(&client) || !self.live.as_ref().is_some_and(is_new) {
            return Ok(());
        }
        let headline = Headline::new(EventKind::ClientJoined).client(client);
        self.tell(RunEvent::Joined(client), headline, now).map(|_| ())
    }

    /// Removes files that no record names: of transactions that never came about, and of uploads nobody waits for.
    pub(super) fn sweep(&mut self) -> Result<(), EngineError> {
        let mut named = self.published()?;
        let mut awaited = BTreeSet::new();
        if let Some(live) = &self.live
            && let Some(round) = live.run.round()
        {
            let is_spent = matches!(round.phase(), Phase::Published(_));
            named.extend(round.accepted().values().filter(|_| !is_spent));
            awaited.clone_from(round.waiting());
        }
        let removed = self.blobs.sweep(&named, &awaited)?;
        if removed > 0 {
            tracing::info!(removed, "files that no record names");
        }
        Ok(())
    }
}

/// Whether a run's record says that it is not over.
pub(super) fn is_live(status: RunStatus) -> bool {
    matches!(status, RunStatus::Pending | RunStatus::Running | RunStatus::Paused)
}
