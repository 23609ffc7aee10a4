//! What the session's thread and the connection's tasks know together.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fedlora_adapter::{ClientId, Digest, RoundId, RoundPlan};
use fedlora_learner::Watch;
use fedlora_proto::federation::{ClientMessage, Decline, client_message::Kind};
use tokio::sync::{mpsc, watch};

use super::LinkError;
use crate::{Progress, outbox::TaskKey, terms::RunInfo};

/// Longest reason that a coordinator takes, in bytes.
const REASON_BYTES: usize = 500;

/// A task as it was pushed, before its adapter is here.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) key: TaskKey,
    pub(super) client: ClientId,
    pub(super) run: Arc<RunInfo>,
    pub(super) plan: Arc<RoundPlan>,
    pub(super) blob: Digest,
    pub(super) blob_bytes: u64,
}

/// What the session's thread gets when it asks for work.
#[derive(Debug)]
pub(super) enum Taken {
    Offer(Offer),
    Over(Result<(), LinkError>),
}

#[derive(Debug, Default)]
struct State {
    /// The youngest task that nobody has taken yet.
    offered: Option<Offer>,
    /// The task that was taken and is not answered yet.
    active: Option<TaskKey>,
    /// The active task's round is over.
    withdrawn: bool,
    /// The last task that was answered.
    done: Option<TaskKey>,
    /// The run that this client takes part in.
    run: Option<u64>,
    /// Why there will be no more work.
    over: Option<Result<(), LinkError>>,
    stopping: bool,
    /// The stream is to be made anew.
    reconnect: bool,
    outgoing: Option<mpsc::Sender<ClientMessage>>,
}

/// The state, and two ways to wait for a change of it: one that blocks and one that does not.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    bell: watch::Sender<()>,
    pub(super) watch: Watch,
    pub(super) progress: Progress,
}

impl Shared {
    pub(super) fn new(training: Watch, progress: Progress) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            bell: watch::Sender::new(()),
            watch: training,
            progress,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a few assignments: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.changed.notify_all();
        self.bell.send_replace(());
        outcome
    }

    /// Waits until the state is as asked. Cancel safe.
    async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut bell = self.bell.subscribe();
        while !condition(&self.lock()) {
            // Only an error if the sender is gone, and it is `self`'s.
            let _ = bell.changed().await;
        }
    }

    /// Blocks until there is work or there will be none.
    pub(super) fn take(&self) -> Taken {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Taken::Over(Ok(()));
            }
            if let Some(offer) = state.offered.take() {
                state.active = Some(offer.key);
                state.withdrawn = false;
                self.watch.reset();
                return Taken::Offer(offer);
            }
            if let Some(outcome) = state.over.take() {
                return Taken::Over(outcome);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A task was pushed. One that is under way or answered already is the same task after a reconnection.
    pub(super) fn offer(&self, offer: Offer) {
        self.change(|state| {
            let known = |key: &Option<TaskKey>| *key == Some(offer.key);
            if known(&state.done) || (known(&state.active) && !state.withdrawn) {
                return;
            }
            // A coordinator has one open round: whatever else is under way is over.
            self.withdraw(state, |_| true);
            state.offered = Some(offer);
        });
    }

    /// A round is over.
    pub(super) fn closed(&self, run: u64, round: RoundId) {
        let is_closed = |key: TaskKey| (key.run, key.round) == (run, round);
        self.change(|state| {
            if state.offered.as_ref().is_some_and(|offer| is_closed(offer.key)) {
                state.offered = None;
            }
            self.withdraw(state, is_closed);
        });
    }

    fn withdraw(&self, state: &mut State, is_over: impl Fn(TaskKey) -> bool) {
        if state.active.is_some_and(is_over) {
            state.withdrawn = true;
            self.watch.cancel();
        }
    }

    /// The active task is answered.
    pub(super) fn finished(&self, key: TaskKey) {
        self.change(|state| {
            state.done = Some(key);
            state.active = state.active.filter(|active| *active != key);
        });
        self.progress.say("waiting for the next round");
    }

    /// There will be no more work, for this reason. A task that was offered before is still done.
    pub(super) fn over(&self, outcome: Result<(), LinkError>) {
        self.change(|state| state.over = Some(outcome));
    }

    /// The client takes part in a run.
    pub(super) fn entered(&self, run: u64) {
        self.change(|state| state.run = Some(run));
    }

    /// Whether the run that this client took part in is not the coordinator's any more.
    pub(super) fn missed_the_end(&self, current: Option<u64>) -> bool {
        self.lock().run.is_some_and(|run| current != Some(run))
    }

    /// The run is over and nothing of it is wanted any more.
    pub(super) fn run_over(&self) {
        self.change(|state| {
            state.run = None;
            state.offered = None;
            self.withdraw(state, |_| true);
        });
    }

    pub(super) fn stop(&self) {
        self.change(|state| {
            state.stopping = true;
            self.withdraw(state, |_| true);
        });
    }

    pub(super) fn reconnect(&self) {
        self.change(|state| state.reconnect = true);
    }

    pub(super) fn withdrawn(&self, round: RoundId) -> bool {
        let state = self.lock();
        state.stopping || (state.withdrawn && state.active.is_some_and(|key| key.round == round))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    pub(super) async fn stopping(&self) {
        self.until(|state| state.stopping).await;
    }

    /// Waits for a wish to make the stream anew, and takes it.
    pub(super) async fn reconnecting(&self) {
        self.until(|state| state.reconnect).await;
        self.lock().reconnect = false;
    }

    /// Waits until the active task is not wanted any more.
    pub(super) async fn unwanted(&self) {
        self.until(|state| state.stopping || state.withdrawn).await;
    }

    pub(super) fn set_outgoing(&self, outgoing: Option<mpsc::Sender<ClientMessage>>) {
        self.lock().outgoing = outgoing;
    }

    /// Says that a task will not be done; nobody hears it while there is no connection.
    pub(super) fn decline(&self, round: RoundId, reason: &str) {
        let reason = reason[..reason.floor_char_boundary(REASON_BYTES)].to_owned();
        let outgoing = self.change(|state| {
            state.done = state.active.take();
            state.outgoing.clone()
        });
        let kind = Some(Kind::Decline(Decline { round: round.0, reason }));
        if let Some(outgoing) = outgoing {
            // The channel is only full while the connection is stuck.
            let _ = outgoing.try_send(ClientMessage { kind });
        }
    }

    /// The round being trained; 0 for none.
    pub(super) fn active_round(&self) -> u64 {
        self.lock().active.map_or(0, |key| key.round.0)
    }

    pub(super) fn training(&self, offer: &Offer) {
        let (round, rounds) = (offer.key.round.0, offer.plan.num_rounds);
        tracing::info!(run = %offer.run.name, round, "training");
        self.progress.say(&format!("{}: round {round} of {rounds}, training", offer.run.name));
    }
}
