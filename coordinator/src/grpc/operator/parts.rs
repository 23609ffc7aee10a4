//! What the operator's service needs of the coordinator's other parts: as little as it uses, so that a test can stand
//! in for them.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use fedlora_adapter::{Adapter, ClientId, PeftOptions, RoundId};
use fedlora_proto::operator::{
    Checkpoint, ClientRequest, ClientSummary, CreateTokenRequest, Event, RoundDetail, RoundMetrics, RoundSummary,
    RunSummary, TokenSummary,
};
use tokio::sync::{broadcast, watch};
use tonic::{Request, Status};

use crate::{Control, CurrentRun, ModelDescription, Peer, RunId, Standing, Timestamp, config::RunConfig};

/// Who is calling.
pub trait Identify: Send + Sync + 'static {
    /// The caller of a request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `PERMISSION_DENIED` for a caller who is not known, or is no longer.
    fn identify<T>(&self, request: &Request<T>, now: Timestamp) -> Result<Peer, Status>;
}

/// What runs the rounds. Read models come with the names of clients left empty. No run given means the live one, or the
/// last one; `NOT_FOUND` where there is no such run or round.
pub trait OperatorEngine: Clone + Send + Sync + 'static {
    /// The live run.
    fn run(&self) -> Option<Arc<CurrentRun>>;
    /// A number that grows with every durable change, and once more when the engine has stopped: what waits for it then
    /// asks, is answered `UNAVAILABLE`, and ends.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Open sessions.
    fn connected(&self) -> usize;
    /// Clients that have an open session, or of which an update ever counted.
    fn standings(&self) -> impl Future<Output = Result<BTreeMap<ClientId, Standing>, Status>> + Send;
    /// Begins a run; the same key begins it once.
    fn start_run(
        &self,
        config: RunConfig,
        model: ModelDescription,
        idempotency_key: String,
    ) -> impl Future<Output = Result<RunSummary, Status>> + Send;
    /// Pauses, resumes or stops.
    fn control(&self, run: Option<RunId>, control: Control) -> impl Future<Output = Result<RunSummary, Status>> + Send;
    /// Begins a run that goes on from a published adapter.
    fn restore(&self, run: RunId, round: RoundId) -> impl Future<Output = Result<RunSummary, Status>> + Send;
    /// All runs, youngest first.
    fn runs(&self) -> impl Future<Output = Result<Vec<RunSummary>, Status>> + Send;
    /// At most `limit` rounds, youngest first.
    fn rounds(
        &self,
        run: Option<RunId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<RoundSummary>, Status>> + Send;
    /// A round with its clients; no round given means the open one, or the last one. `NOT_FOUND` before the first.
    fn round_detail(
        &self,
        run: Option<RunId>,
        round: Option<RoundId>,
    ) -> impl Future<Output = Result<RoundDetail, Status>> + Send;
    /// At most `limit` events after a number, oldest first.
    fn events(&self, after: u64, limit: usize) -> impl Future<Output = Result<Vec<Event>, Status>> + Send;
    /// Finished rounds after a round, oldest first.
    fn metrics(
        &self,
        run: Option<RunId>,
        after_round: u64,
    ) -> impl Future<Output = Result<Vec<RoundMetrics>, Status>> + Send;
    /// Published adapters.
    fn checkpoints(&self, run: Option<RunId>) -> impl Future<Output = Result<Vec<Checkpoint>, Status>> + Send;
    /// A published adapter; no round given means the last one.
    fn export(
        &self,
        run: Option<RunId>,
        round: Option<RoundId>,
    ) -> impl Future<Output = Result<(Adapter, PeftOptions), Status>> + Send;
    /// Invites a client to no further round.
    fn drain(&self, client: ClientId) -> impl Future<Output = ()> + Send;
    /// Ends a client's sessions now, for good.
    fn expel(&self, client: ClientId) -> impl Future<Output = ()> + Send;
}

/// Who is enrolled. Calls may wait for a disk.
pub trait OperatorRegistry: Clone + Send + Sync + 'static {
    /// Makes a token; the secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// A name or a role that cannot be.
    fn create_token(&self, request: CreateTokenRequest, now: Timestamp) -> Result<(TokenSummary, String), Status>;
    /// All tokens.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn tokens(&self, now: Timestamp) -> Result<Vec<TokenSummary>, Status>;
    /// Makes a token useless.
    ///
    /// # Errors
    /// No such token.
    fn revoke_token(&self, token_id: &str, now: Timestamp) -> Result<TokenSummary, Status>;
    /// All that ever enrolled, by number.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn clients(&self) -> Result<Vec<ClientSummary>, Status>;
    /// One of them.
    ///
    /// # Errors
    /// No such client.
    fn client(&self, request: &ClientRequest) -> Result<ClientSummary, Status>;
    /// Takes the right to connect away, for good.
    ///
    /// # Errors
    /// No such client.
    fn revoke(&self, client: ClientId, now: Timestamp) -> Result<ClientSummary, Status>;
    /// Remembers that a client is to be invited no more.
    ///
    /// # Errors
    /// No such client.
    fn set_drained(&self, client: ClientId) -> Result<ClientSummary, Status>;
    /// Who is revoked, as it happens.
    fn revocations(&self) -> broadcast::Receiver<ClientId>;
}
