//! What a client's process knows of its task, as it follows from what the coordinator pushed.

use std::sync::Arc;

use fedlora_adapter::{Digest, RoundId};

use super::wire::Line;
use crate::{CurrentRound, CurrentRun, RunId, UpdateMeta};

/// A task, with the run that it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) run: Arc<CurrentRun>,
    pub(super) round: Arc<CurrentRound>,
}

/// Which task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    run: RunId,
    round: RoundId,
    base: Digest,
}

impl Key {
    pub(super) fn of(round: &CurrentRound) -> Self {
        Self { run: round.run, round: round.plan.round, base: round.plan.base }
    }

    pub(super) fn of_update(update: &UpdateMeta) -> Self {
        Self { run: update.run, round: update.round, base: update.base }
    }
}

/// What the process is at.
#[derive(Debug, Default)]
pub(super) enum Work {
    #[default]
    Idle,
    /// No line: waiting before the next try.
    Download(Task, Option<Line>),
    Train(Task),
    /// The update in the outbox.
    Upload(Call),
}

/// How far the call is that an upload is at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    /// Waiting before the next try.
    Waiting,
    /// Asking what the coordinator has.
    Asking(Line),
    /// Sending from this byte on; past the end once all is sent.
    Sending(Line, usize),
    AllSent(Line),
}

/// A process.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) stream: Option<Line>,
    pub(super) run: Option<Arc<CurrentRun>>,
    pub(super) stream_failures: u32,
    /// The youngest task that was not taken up yet.
    pub(super) offered: Option<Task>,
    /// The task that was taken up and is not answered yet.
    active: Option<Key>,
    /// The active task's round is over.
    is_withdrawn: bool,
    /// The last task that was answered.
    done: Option<Key>,
    pub(super) work: Work,
    pub(super) failures: u32,
    /// Of the last timer for the work that was set; older ones mean nothing.
    pub(super) ticket: u64,
}

impl Process {
    /// A task was pushed. One that is under way or answered already is the same task after a reconnection.
    pub(super) fn offer(&mut self, task: Task) {
        let key = Key::of(&task.round);
        if self.done == Some(key) || (self.active == Some(key) && !self.is_withdrawn) {
            return;
        }
        // A coordinator has one open round: whatever else is under way is over.
        self.is_withdrawn |= self.active.is_some();
        self.offered = Some(task);
    }

    /// A round is over.
    pub(super) fn closed(&mut self, run: RunId, round: RoundId) {
        let is_closed = |key: Key| (key.run, key.round) == (run, round);
        self.offered.take_if(|task| is_closed(Key::of(&task.round)));
        self.is_withdrawn |= self.active.is_some_and(is_closed);
    }

    /// The run is over and nothing of it is wanted any more.
    pub(super) fn run_over(&mut self) {
        self.offered = None;
        self.is_withdrawn |= self.active.is_some();
    }

    /// Takes up a task.
    pub(super) fn take(&mut self) -> Option<Task> {
        let task = self.offered.take()?;
        (self.active, self.is_withdrawn) = (Some(Key::of(&task.round)), false);
        self.failures = 0;
        Some(task)
    }

    /// The active task is answered.
    pub(super) fn finished(&mut self, key: Key) {
        self.done = Some(key);
        self.active.take_if(|active| *active == key);
        self.work = Work::Idle;
    }

    /// Whether what the process is at can be dropped, since nobody wants it any more. With everything on its way the
    /// receipt is near, and often it is this update that closed the round.
    pub(super) fn is_unwanted(&self) -> bool {
        let waits_for_answer = matches!(self.work, Work::Upload(Call::Asking(_) | Call::AllSent(_)));
        let fetches = matches!(self.work, Work::Download(_, Some(_)));
        self.is_withdrawn && !waits_for_answer && !fetches && !matches!(self.work, Work::Idle)
    }

    /// The line of the call under way.
    pub(super) fn call(&self) -> Option<Line> {
        match self.work {
            Work::Download(_, line) => line,
            Work::Upload(Call::Asking(line) | Call::Sending(line, _) | Call::AllSent(line)) => Some(line),
            _ => None,
        }
    }
}
