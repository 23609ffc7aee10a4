//! Server steps: handing them out, taking their results, and what becomes of one that fails.
//!
//! A step that fails because the disk is full or broken is tried again until it succeeds: the round is closed, its
//! updates are durable, and the same step gives the same adapter later. Any other failure would come again, so it ends
//! the run as failed, with the reason.

use std::sync::Arc;

use fedlora_adapter::RoundId;

use super::{
    Answer, Engine, EngineError, EventKind,
    live::{Headline, Live},
};
use crate::{Phase, RoundEvent, RunEvent, StepError, StepOutcome, StepTask, StoreError, Timestamp, store::LogEntry};

/// How long to wait before the first new attempt at a server step or at reading the state back; it doubles.
pub(super) const RETRY_MS: u64 = 1_000;
/// Longest wait between attempts.
const LONGEST_RETRY_MS: u64 = 60_000;

/// A server step that failed for a reason that may pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    pub(super) round: RoundId,
    pub(super) attempts: u32,
    pub(super) at: Timestamp,
    pub(super) is_due: bool,
}

impl Engine {
    /// The server step of a closed round.
    pub(super) fn step_task(&mut self) -> Result<Option<StepTask>, StoreError> {
        let Some(live) = &self.live else { return Ok(None) };
        let Some(round) = live.run.round().filter(|round| round.phase() == Phase::Closed) else {
            return Ok(None);
        };
        let mut updates = self.records.updates(live.id, round.id())?;
        updates.retain(|update| round.accepted().get(&update.client) == Some(&update.blob));
        if updates.len() != round.accepted().len() {
            let (found, expected) = (updates.len(), round.accepted().len());
            let text = format!("{} accepted {expected} updates, {found} are recorded", round.id());
            return Err(StoreError::Contradiction(text));
        }
        Ok(Some(StepTask {
            run: live.id,
            round: round.id(),
            strategy: Arc::clone(&live.strategy),
            weighting: live.config.weighting,
            global: Arc::clone(&live.global),
            updates,
            blobs: self.blobs.clone(),
            privacy: live.step_privacy(self.settings.noise),
        }))
    }

    /// A server step is done, or could not be.
    pub(super) fn stepped(&mut self, outcome: StepOutcome, now: Timestamp) -> Result<Answer, EngineError> {
        let is_due = |live: &&mut Live| {
            let closed = live.run.round().filter(|round| round.phase() == Phase::Closed);
            live.id == outcome.run && closed.is_some_and(|round| round.id() == outcome.round)
        };
        let Some(live) = self.live.as_mut().filter(is_due) else { return Ok(Answer::Done) };
        match outcome.result {
            Ok(result) => {
                let told = live.publish(&mut self.records, result, now);
                let told = self.or_lose(told)?;
                self.retry = None;
                self.follow(&told)?;
            }
            Err(error) if error.is_transient() => self.retry_later(outcome.round, &error, now)?,
            Err(error) => {
                let reason = chain(&error);
                live.failure = Some(format!("server step of {}: {reason}", outcome.round));
                let event = RunEvent::Round(RoundEvent::StepFailed);
                let headline = Headline::new(EventKind::ServerStepFailed).detail(format!("reason={reason:?}"));
                self.tell(event, headline, now)?;
            }
        }
        Ok(Answer::Done)
    }

    /// The round stays closed; its updates are durable, and the same step gives the same adapter later.
    fn retry_later(&mut self, round: RoundId, error: &StepError, now: Timestamp) -> Result<(), EngineError> {
        let attempts = self.retry.filter(|retry| retry.round == round).map_or(0, |retry| retry.attempts);
        let wait_ms = (RETRY_MS << attempts.min(10)).min(LONGEST_RETRY_MS);
        let reason = chain(error);
        tracing::warn!(%round, attempts, wait_ms, reason, "server step failed, will be tried again");
        self.retry = Some(Retry { round, attempts: attempts + 1, at: now + wait_ms, is_due: true });
        let run = self.live.as_ref().map(|live| live.id).filter(|_| attempts == 0);
        let Some(run) = run else { return Ok(()) };
        let detail = format!("will-be-retried=true reason={reason:?}");
        let kind = EventKind::ServerStepFailed;
        self.log(LogEntry { time: now, run, round, client: None, kind, detail, input: None })
    }
}

/// An error with its sources, for records and operators.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let more = next.to_string();
        // Errors that are shown as their source say the same twice.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = next.source();
    }
    text
}
