//! A link over gRPC: one stream for tasks and heartbeats, calls of their own for bytes.
//!
//! The session's calls block; the stream lives on threads of its own, so that heartbeats go on while a model trains.
//! A lost connection is a matter of this file and its folder: the link comes back by itself, gets the same task again
//! and goes on with it. Only a coordinator that says why it will never work ends the session.

mod connection;
mod download;
mod error;
mod shared;
mod transfer;
mod upload;

use std::{sync::Arc, time::Duration};

use fedlora_adapter::{ClientId, Digest};
use fedlora_learner::Watch;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

use self::{
    connection::Connection,
    download::Blobs,
    shared::{Offer, Shared, Taken},
    transfer::Transfer,
    upload::Sent,
};
use super::{Link, Submission, Task};
use crate::{
    Progress, StateDir, Terms,
    backoff::Backoff,
    dialer::Dialer,
    outbox::{Letter, Outbox},
};

pub use error::LinkError;

/// Time to say goodbye to the coordinator.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a link is made of.
#[derive(Debug)]
pub struct LinkSettings {
    /// The connection.
    pub dialer: Arc<Dialer>,
    /// Digest of the base model that this client loaded.
    pub base_model: Digest,
    /// This client's training examples.
    pub examples: u64,
    /// Wait for the next run when one is over.
    pub stay: bool,
    /// Waits between tries.
    pub backoff: Backoff,
    /// Told about the round under way.
    pub terms: Terms,
    /// The training that is cancelled when its round closes.
    pub watch: Watch,
    /// Told how it goes.
    pub progress: Progress,
}

/// A link to a coordinator.
#[derive(Debug)]
pub struct GrpcLink {
    // None only while it is dropped.
    runtime: Option<Runtime>,
    connection: Option<JoinHandle<()>>,
    transfer: Transfer,
    outbox: Outbox,
    blobs: Blobs,
    terms: Terms,
    current: Option<Offer>,
    // Held for as long as the link lives.
    _state: StateDir,
}

/// Ends a link's work from outside.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Shared>);

impl Stop {
    /// Cancels training, says goodbye to the coordinator and lets the session end. What is on its way stays on disk.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl GrpcLink {
    /// A link that starts to connect at once.
    ///
    /// # Errors
    /// The system has no threads left.
    pub fn start(settings: LinkSettings, state: StateDir) -> Result<Self, LinkError> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("fedlora-link").build();
        let runtime = runtime.map_err(LinkError::Runtime)?;
        let LinkSettings { dialer, base_model, examples, stay, backoff, terms, watch, progress } = settings;
        let shared = Arc::new(Shared::new(watch, progress));
        let transfer = Transfer { shared: Arc::clone(&shared), dialer: Arc::clone(&dialer), backoff: backoff.clone() };
        let connection = Connection { shared, dialer, base_model, examples, stay };
        let connection = runtime.spawn(connection.keep(backoff));
        let (outbox, blobs) = (Outbox::new(state.outbox()), Blobs::new(state.blobs()));
        Ok(Self {
            runtime: Some(runtime),
            connection: Some(connection),
            transfer,
            outbox,
            blobs,
            terms,
            current: None,
            _state: state,
        })
    }

    /// What ends this link's work from outside.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        Stop(Arc::clone(&self.transfer.shared))
    }

    /// Runs something beside the link for as long as it lives.
    pub fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(work);
        }
    }

    /// Makes the stream anew, for example with a younger certificate.
    pub fn reconnector(&self) -> impl Fn() + Send + Sync + 'static {
        let (shared, dialer) = (Arc::clone(&self.transfer.shared), Arc::clone(&self.transfer.dialer));
        move || {
            dialer.reconnect();
            shared.reconnect();
        }
    }

    fn block_on<F: Future>(&self, work: F) -> Result<F::Output, LinkError> {
        self.runtime.as_ref().map(|runtime| runtime.block_on(work)).ok_or(LinkError::Ended)
    }

    /// Sends an update that lies in the outbox.
    fn send(&self, letter: &Letter) -> Result<(), LinkError> {
        let sent = self.block_on(self.transfer.upload(letter, &self.outbox.file(letter)))??;
        if let Sent::Receipt(receipt) = &sent {
            upload::report(&self.transfer.shared, letter, receipt);
        }
        // After a stop it stays, to be sent when the client comes back; after the round's end nobody wants it.
        if !matches!(sent, Sent::Stopped) {
            self.outbox.clear()?;
            self.transfer.shared.finished(letter.task);
        }
        Ok(())
    }
}

impl Link for GrpcLink {
    type Error = LinkError;

    fn next_tasks(&mut self) -> Result<Option<Vec<Task>>, LinkError> {
        loop {
            let offer = match self.transfer.shared.take() {
                Taken::Offer(offer) => offer,
                Taken::Over(outcome) => return outcome.map(|()| None),
            };
            let unsent = self.outbox.find(offer.key)?.filter(|letter| letter.spec == offer.plan.spec);
            if let Some(letter) = unsent {
                tracing::info!(round = offer.key.round.0, "sending the update that was on its way");
                self.send(&letter)?;
                continue;
            }
            self.outbox.clear()?;
            let Some(global) = self.block_on(self.transfer.download(&self.blobs, &offer))?? else { continue };
            self.terms.set(Arc::clone(&offer.run), offer.key.round);
            self.transfer.shared.training(&offer);
            let task = Task { client: offer.client, plan: Arc::clone(&offer.plan), global: Arc::new(global) };
            self.current = Some(offer);
            return Ok(Some(vec![task]));
        }
    }

    fn submit(&mut self, submission: Submission) -> Result<(), LinkError> {
        let Some(offer) = self.current.take() else { return Err(LinkError::Ended) };
        let letter = self.outbox.put(offer.key, offer.plan.spec, &submission)?;
        self.send(&letter)
    }

    fn withdrawn(&self, task: &Task) -> bool {
        self.transfer.shared.withdrawn(task.plan.round)
    }

    fn decline(&mut self, task: &Task, reason: &str) {
        self.transfer.shared.decline(task.plan.round, reason);
    }
}

impl Drop for GrpcLink {
    fn drop(&mut self) {
        self.transfer.shared.stop();
        if let (Some(runtime), Some(connection)) = (self.runtime.take(), self.connection.take()) {
            // Whether the goodbye arrived or not, there is nothing left to do.
            let _ = runtime.block_on(async { tokio::time::timeout(GOODBYE, connection).await });
            runtime.shutdown_background();
        }
    }
}

/// The number of the client that a link plays.
fn client_id(number: u64) -> ClientId {
    ClientId(number)
}
