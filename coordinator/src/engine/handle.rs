//! The engine for everybody else: clones of a handle, used from any task.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, ClientId, Digest, PeftOptions, RoundId};
use fedlora_proto::operator::{Checkpoint, Event, RoundDetail, RoundMetrics, RoundSummary, RunSummary};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Answer, Command, Control, Engine, EngineError, View, thread::Request};
use crate::{
    Blobs, CurrentRound, CurrentRun, ModelDescription, Push, ReasonCode, Receipt, RunId, SessionId, Standing,
    UpdateMeta,
    config::{CentralRelease, RunConfig},
};

/// Pushes that wait for a client to read them. A round takes three.
const PUSHES: usize = 32;

/// A handle to an engine on its thread. All methods that wait can be cancelled; the request then takes effect without
/// an answer.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<View>,
    changes: watch::Receiver<u64>,
    blobs: Blobs,
}

impl Handle {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        view: watch::Receiver<View>,
        changes: watch::Receiver<u64>,
        blobs: Blobs,
    ) -> Self {
        Self { requests, view, changes, blobs }
    }

    /// The live run.
    #[must_use]
    pub fn run(&self) -> Option<Arc<CurrentRun>> {
        self.view.borrow().run.clone()
    }

    /// The round that is collecting.
    #[must_use]
    pub fn round(&self) -> Option<Arc<CurrentRound>> {
        self.view.borrow().round.clone()
    }

    /// The live run's global adapter: what the open round started from.
    #[must_use]
    pub fn global(&self) -> Option<Arc<Adapter>> {
        self.view.borrow().global.clone()
    }

    /// Clients with a session.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.view.borrow().connected
    }

    /// The files.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Changes whenever something durable did, and closes when the engine is gone.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Opens a client's session and returns what is pushed to it. An older session of the same client ends.
    ///
    /// # Errors
    /// The store fails; the engine is gone.
    pub async fn connect(
        &self,
        client: ClientId,
        examples: u64,
    ) -> Result<(SessionId, mpsc::Receiver<Push>), EngineError> {
        let (pushes, received) = mpsc::channel(PUSHES);
        match self.ask(Command::Connect { client, examples }, Some(pushes)).await? {
            Answer::Session(session) => Ok((session, received)),
            _ => Err(EngineError::Stopped),
        }
    }

    /// A session ended.
    pub async fn disconnect(&self, client: ClientId, session: SessionId) {
        self.tell(Command::Disconnect { client, session }).await;
    }

    /// How far a client's training is.
    pub async fn progress(&self, client: ClientId, session: SessionId, round: RoundId, steps_done: u64) {
        self.tell(Command::Progress { client, session, round, steps_done }).await;
    }

    /// A client will not do its task.
    pub async fn decline(&self, client: ClientId, session: SessionId, round: RoundId, reason: String) {
        self.tell(Command::Decline { client, session, round, reason }).await;
    }

    /// Hands in a valid update whose file is durable. The receipt is too.
    ///
    /// # Errors
    /// The store fails, and the update does not count; its file is not there; the engine is gone.
    pub async fn submit(&self, update: UpdateMeta) -> Result<Receipt, EngineError> {
        self.receipt_of(Command::Submit(update)).await
    }

    /// Hands in an update that is invalid.
    ///
    /// # Errors
    /// The store fails; the engine is gone.
    pub async fn refuse(&self, update: UpdateMeta, code: ReasonCode, detail: String) -> Result<Receipt, EngineError> {
        self.receipt_of(Command::Refuse(update, code, detail)).await
    }

    /// What became of an update that was handed in before; `None` if that is not known.
    ///
    /// # Errors
    /// The store fails; the engine is gone.
    pub async fn receipt(
        &self,
        client: ClientId,
        run: RunId,
        round: RoundId,
        blob: Digest,
    ) -> Result<Option<Receipt>, EngineError> {
        self.read(move |engine| engine.receipt(client, run, round, blob)).await
    }

    /// Begins a run. Asking twice with the same key, unless it is empty, begins one.
    ///
    /// # Errors
    /// A run is live; the configuration cannot make one; the store fails; the engine is gone.
    pub async fn start_run(
        &self,
        config: RunConfig,
        model: ModelDescription,
        idempotency_key: String,
    ) -> Result<RunSummary, EngineError> {
        let (config, model) = (Box::new(config), Box::new(model));
        self.summary_of(Command::StartRun { config, model, key: idempotency_key }).await
    }

    /// Pauses, resumes or stops a run; the live one if none is named.
    ///
    /// # Errors
    /// No such run, or it is over; the store fails; the engine is gone.
    pub async fn control(&self, run: Option<RunId>, control: Control) -> Result<RunSummary, EngineError> {
        self.summary_of(Command::Control { run, control }).await
    }

    /// Begins a run that goes on from a published adapter of an old one.
    ///
    /// # Errors
    /// A run is live; no such checkpoint; the store fails; the engine is gone.
    pub async fn restore(&self, run: RunId, round: RoundId) -> Result<RunSummary, EngineError> {
        self.summary_of(Command::Restore { run, round }).await
    }

    /// As [`Engine::runs`].
    ///
    /// # Errors
    /// The store fails; the engine is gone.
    pub async fn runs(&self) -> Result<Vec<RunSummary>, EngineError> {
        self.read(Engine::runs).await
    }

    /// As [`Engine::rounds`].
    ///
    /// # Errors
    /// No such run; the store fails; the engine is gone.
    pub async fn rounds(&self, run: Option<RunId>, limit: usize) -> Result<Vec<RoundSummary>, EngineError> {
        self.read(move |engine| engine.rounds(run, limit)).await
    }

    /// As [`Engine::round_detail`].
    ///
    /// # Errors
    /// No such run or round; the store fails; the engine is gone.
    pub async fn round_detail(&self, run: Option<RunId>, round: Option<RoundId>) -> Result<RoundDetail, EngineError> {
        self.read(move |engine| engine.round_detail(run, round)).await
    }

    /// As [`Engine::standings`].
    ///
    /// # Errors
    /// The store fails; the engine is gone.
    pub async fn standings(&self) -> Result<BTreeMap<ClientId, Standing>, EngineError> {
        self.read(Engine::standings).await
    }

    /// As [`Engine::events`].
    ///
    /// # Errors
    /// The store fails; the engine is gone.
    pub async fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, EngineError> {
        self.read(move |engine| engine.events(after, limit)).await
    }

    /// As [`Engine::metrics`].
    ///
    /// # Errors
    /// No such run; the store fails; the engine is gone.
    pub async fn metrics(&self, run: Option<RunId>, after_round: u64) -> Result<Vec<RoundMetrics>, EngineError> {
        self.read(move |engine| engine.metrics(run, after_round)).await
    }

    /// As [`Engine::checkpoints`].
    ///
    /// # Errors
    /// No such run; the store fails; the engine is gone.
    pub async fn checkpoints(&self, run: Option<RunId>) -> Result<Vec<Checkpoint>, EngineError> {
        self.read(move |engine| engine.checkpoints(run)).await
    }

    /// As [`Engine::export`].
    ///
    /// # Errors
    /// No such run or checkpoint; its file is damaged; the store fails; the engine is gone.
    pub async fn export(
        &self,
        run: Option<RunId>,
        round: Option<RoundId>,
    ) -> Result<(Adapter, PeftOptions), EngineError> {
        self.read(move |engine| engine.export(run, round)).await
    }

    /// As [`Engine::release`].
    ///
    /// # Errors
    /// There was no run; the store fails; the engine is gone.
    pub async fn release(&self, round: RoundId) -> Result<Option<CentralRelease>, EngineError> {
        self.read(move |engine| engine.release(round)).await
    }

    /// Invites a client to no further round.
    pub async fn drain(&self, client: ClientId) {
        self.tell(Command::Drain(client)).await;
    }

    /// Ends a client's session now: it may take no further part.
    pub async fn expel(&self, client: ClientId) {
        self.tell(Command::Expel(client)).await;
    }

    /// Ends all sessions with the reason `draining` and stops the engine. Everything answered before is durable.
    pub async fn shutdown(&self) {
        let (done, is_done) = oneshot::channel();
        if self.requests.send(Request::Shutdown(done)).await.is_ok() {
            // An engine that is gone has shut down.
            let _ = is_done.await;
        }
    }

    /// Makes the engine look at its clock.
    #[cfg(test)]
    pub(super) async fn wake(&self) {
        let _ = self.requests.send(Request::Wake).await;
    }

    async fn ask(&self, command: Command, pushes: Option<mpsc::Sender<Push>>) -> Result<Answer, EngineError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(Request::Command(command, answer, pushes)).await;
        sent.map_err(|_| EngineError::Stopped)?;
        answered.await.map_err(|_| EngineError::Stopped)?
    }

    /// For what has no answer but success; a failure is reported by the engine's thread.
    async fn tell(&self, command: Command) {
        let _ = self.ask(command, None).await;
    }

    async fn receipt_of(&self, command: Command) -> Result<Receipt, EngineError> {
        match self.ask(command, None).await? {
            Answer::Receipt(receipt) => Ok(receipt),
            _ => Err(EngineError::Stopped),
        }
    }

    async fn summary_of(&self, command: Command) -> Result<RunSummary, EngineError> {
        match self.ask(command, None).await? {
            Answer::Run(summary) => Ok(*summary),
            _ => Err(EngineError::Stopped),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Read(Box::new(move |engine| drop(answer.send(read(engine)))));
        self.requests.send(request).await.map_err(|_| EngineError::Stopped)?;
        answered.await.map_err(|_| EngineError::Stopped)?
    }
}
