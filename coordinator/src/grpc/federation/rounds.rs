//! What the services for clients need of the engine and of authentication; the engine's handle is one implementation,
//! a fake in the tests another.

use std::{
    future::{Future, pending},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Adapter, ClientId, Digest, RoundId};
use tokio::sync::mpsc;
use tonic::{Request, Status};

use crate::{CurrentRound, CurrentRun, Push, ReasonCode, Receipt, RunId, SessionId, UpdateMeta};

/// Why the engine did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoundsError {
    /// Nothing can be made durable; the state is as before.
    #[error("the coordinator cannot store anything at the moment")]
    Storage(#[source] io::Error),
    /// The engine is stopping.
    #[error("the coordinator is shutting down")]
    Stopped,
    /// Anything else.
    #[error("the coordinator failed")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The engine, as the services for clients see it.
///
/// What is read without waiting comes from the last durable state. A call that returns has its effect made durable.
pub trait Rounds: Clone + Send + Sync + 'static {
    /// The live run.
    fn run(&self) -> Option<Arc<CurrentRun>>;
    /// The round that is collecting.
    fn round(&self) -> Option<Arc<CurrentRound>>;
    /// The global adapter of that round.
    fn global(&self) -> Option<Arc<Adapter>>;
    /// Number of open sessions.
    fn connected(&self) -> usize;
    /// Place of a blob.
    fn blob_path(&self, digest: Digest) -> PathBuf;
    /// Place of a partial upload; the same for the same client and digest, also after a restart.
    fn spool_path(&self, client: ClientId, digest: Digest) -> PathBuf;
    /// Makes a complete spool file durable under its digest, which the caller has verified. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    fn adopt(&self, spooled: &Path, digest: Digest) -> Result<(), RoundsError>;
    /// Opens a session; an older one of the same client ends.
    fn connect(
        &self,
        client: ClientId,
        examples: u64,
    ) -> impl Future<Output = Result<(SessionId, mpsc::Receiver<Push>), RoundsError>> + Send;
    /// Closes a session, unless a younger one of the client has replaced it.
    fn disconnect(&self, client: ClientId, session: SessionId) -> impl Future<Output = ()> + Send;
    /// How far a client's training is.
    fn progress(
        &self,
        client: ClientId,
        session: SessionId,
        round: RoundId,
        steps_done: u64,
    ) -> impl Future<Output = ()> + Send;
    /// A client will not do a task.
    fn decline(
        &self,
        client: ClientId,
        session: SessionId,
        round: RoundId,
        reason: String,
    ) -> impl Future<Output = ()> + Send;
    /// Hands in an update whose blob is durable and checked; the receipt comes when the verdict is durable.
    fn submit(&self, meta: UpdateMeta) -> impl Future<Output = Result<Receipt, RoundsError>> + Send;
    /// Hands in an update that is invalid or names another round.
    fn refuse(
        &self,
        meta: UpdateMeta,
        code: ReasonCode,
        detail: String,
    ) -> impl Future<Output = Result<Receipt, RoundsError>> + Send;
    /// The receipt of an earlier update, if there is one.
    fn receipt(
        &self,
        client: ClientId,
        run: RunId,
        round: RoundId,
        blob: Digest,
    ) -> impl Future<Output = Result<Option<Receipt>, RoundsError>> + Send;
}

/// Tells who is calling.
pub trait Authenticate: Clone + Send + Sync + 'static {
    /// The client that makes this call; anyone who is not an enrolled client is refused.
    ///
    /// # Errors
    /// The status to answer with.
    fn client<T>(&self, request: &Request<T>) -> Result<ClientId, Status>;

    /// Where the call comes from, for limits per address.
    fn address<T>(&self, request: &Request<T>) -> Option<IpAddr> {
        request.remote_addr().map(|address| address.ip())
    }

    /// Returns when the client's right to be here is taken away.
    fn revoked(&self, client: ClientId) -> impl Future<Output = ()> + Send + 'static {
        let _ = client;
        pending()
    }
}
