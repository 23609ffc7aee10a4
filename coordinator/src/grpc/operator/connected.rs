//! Engine, register and authentication as the operator's service wants them.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, ClientId, PeftOptions, RoundId};
use fedlora_proto::operator::{
    Checkpoint, ClientRequest, ClientSummary, CreateTokenRequest, Event, RoundDetail, RoundMetrics, RoundSummary,
    RunSummary, TokenSummary,
};
use tokio::sync::{broadcast, watch};
use tonic::{Code, Request, Status};

use super::{
    parts::{Identify, OperatorEngine, OperatorRegistry},
    refusal::{BAD_CONFIG, INTERNAL, refuse},
};
use crate::{
    Authenticator, Control, CurrentRun, EngineError, Handle, ModelDescription, Peer, Registry, RunId, Standing,
    Timestamp, config::RunConfig, grpc::auth::refusal, plain::chain,
};

/// What an operator is told about an engine that did not do what it was asked.
fn status(error: EngineError) -> Status {
    let (code, reason) = match &error {
        EngineError::Storage(_) => (Code::ResourceExhausted, "STORAGE"),
        EngineError::RunIsLive(_) => (Code::FailedPrecondition, "RUN_IS_LIVE"),
        EngineError::RunIsOver(_) => (Code::FailedPrecondition, "RUN_IS_OVER"),
        EngineError::NoLiveRun => (Code::FailedPrecondition, "NO_LIVE_RUN"),
        EngineError::NoRun | EngineError::UnknownRun(_) => (Code::NotFound, "UNKNOWN_RUN"),
        EngineError::UnknownRound { .. } => (Code::NotFound, "UNKNOWN_ROUND"),
        EngineError::NoCheckpoint { .. } => (Code::NotFound, "NO_CHECKPOINT"),
        EngineError::Config(_) | EngineError::NeedsWeights | EngineError::Initial(_) => {
            (Code::InvalidArgument, BAD_CONFIG)
        }
        EngineError::Stopped => (Code::Unavailable, "DRAINING"),
        _ => (Code::Internal, INTERNAL),
    };
    refuse(code, reason, chain(&error))
}

impl OperatorEngine for Handle {
    fn run(&self) -> Option<Arc<CurrentRun>> {
        Self::run(self)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Self::changes(self)
    }

    fn connected(&self) -> usize {
        Self::connected(self)
    }

    async fn standings(&self) -> Result<BTreeMap<ClientId, Standing>, Status> {
        Self::standings(self).await.map_err(status)
    }

    async fn start_run(
        &self,
        config: RunConfig,
        model: ModelDescription,
        idempotency_key: String,
    ) -> Result<RunSummary, Status> {
        Self::start_run(self, config, model, idempotency_key).await.map_err(status)
    }

    async fn control(&self, run: Option<RunId>, control: Control) -> Result<RunSummary, Status> {
        Self::control(self, run, control).await.map_err(status)
    }

    async fn restore(&self, run: RunId, round: RoundId) -> Result<RunSummary, Status> {
        Self::restore(self, run, round).await.map_err(status)
    }

    async fn runs(&self) -> Result<Vec<RunSummary>, Status> {
        Self::runs(self).await.map_err(status)
    }

    async fn rounds(&self, run: Option<RunId>, limit: usize) -> Result<Vec<RoundSummary>, Status> {
        Self::rounds(self, run, limit).await.map_err(status)
    }

    async fn round_detail(&self, run: Option<RunId>, round: Option<RoundId>) -> Result<RoundDetail, Status> {
        Self::round_detail(self, run, round).await.map_err(status)
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, Status> {
        Self::events(self, after, limit).await.map_err(status)
    }

    async fn metrics(&self, run: Option<RunId>, after_round: u64) -> Result<Vec<RoundMetrics>, Status> {
        Self::metrics(self, run, after_round).await.map_err(status)
    }

    async fn checkpoints(&self, run: Option<RunId>) -> Result<Vec<Checkpoint>, Status> {
        Self::checkpoints(self, run).await.map_err(status)
    }

    async fn export(&self, run: Option<RunId>, round: Option<RoundId>) -> Result<(Adapter, PeftOptions), Status> {
        Self::export(self, run, round).await.map_err(status)
    }

    async fn drain(&self, client: ClientId) {
        Self::drain(self, client).await;
    }

    async fn expel(&self, client: ClientId) {
        Self::expel(self, client).await;
    }
}

impl OperatorRegistry for Registry {
    fn create_token(&self, request: CreateTokenRequest, now: Timestamp) -> Result<(TokenSummary, String), Status> {
        Self::create_token(self, request, now).map_err(|error| refusal(&error))
    }

    fn tokens(&self, now: Timestamp) -> Result<Vec<TokenSummary>, Status> {
        Self::tokens(self, now).map_err(|error| refusal(&error))
    }

    fn revoke_token(&self, token_id: &str, now: Timestamp) -> Result<TokenSummary, Status> {
        Self::revoke_token(self, token_id, now).map_err(|error| refusal(&error))
    }

    fn clients(&self) -> Result<Vec<ClientSummary>, Status> {
        Self::clients(self).map_err(|error| refusal(&error))
    }

    fn client(&self, request: &ClientRequest) -> Result<ClientSummary, Status> {
        Self::client(self, request).map_err(|error| refusal(&error))
    }

    fn revoke(&self, client: ClientId, now: Timestamp) -> Result<ClientSummary, Status> {
        Self::revoke(self, client, now).map_err(|error| refusal(&error))
    }

    fn set_drained(&self, client: ClientId) -> Result<ClientSummary, Status> {
        Self::set_drained(self, client).map_err(|error| refusal(&error))
    }

    fn revocations(&self) -> broadcast::Receiver<ClientId> {
        Self::revocations(self)
    }
}

impl Identify for Authenticator {
    fn identify<T>(&self, request: &Request<T>, now: Timestamp) -> Result<Peer, Status> {
        self.authenticate(request, now)
    }
}
