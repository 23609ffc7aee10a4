//! The operator's service: looking at rounds, clients and events, and changing what happens next.
//!
//! An auditor may call what changes nothing, an operator everything. The service itself knows nothing: it asks the
//! engine about rounds and the registry about people, and puts the two together.

mod arguments;
mod connected;
mod export;
mod follow;
mod parts;
mod refusal;
mod sources;

use std::{fmt, path::PathBuf, sync::Arc};

use fedlora_adapter::{ClientId, RoundId};
use fedlora_proto::operator::{
    ClientRequest, ClientSummary, ControlRunRequest, CreateTokenRequest, CreateTokenResponse, Event, EventsRequest,
    ExportRequest, FilePiece, ListCheckpointsRequest, ListCheckpointsResponse, ListClientsRequest, ListClientsResponse,
    ListRoundsRequest, ListRoundsResponse, ListRunsRequest, ListRunsResponse, ListTokensRequest, ListTokensResponse,
    MetricsRequest, RestoreCheckpointRequest, RevokeTokenRequest, RoundDetail, RoundMetrics, RunSummary,
    ShowRoundRequest, StartRunRequest, StatusRequest, StatusResponse, TokenSummary, WatchRoundsRequest,
    operator_server::Operator,
};
use tonic::{Code, Request, Response, Status};

use crate::{Clock, Control, Role, RunId, Timestamp};
use export::Exports;
use follow::{Answers, Revocation, stream};
use refusal::{BAD_ARGUMENT, INTERNAL, OWN_IDENTITY, WRONG_ROLE, refuse};
use sources::Names;

pub use parts::{Identify, OperatorEngine, OperatorRegistry};
pub(crate) use refusal::REASON_KEY;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing: it only looks.
    Look,
    /// Something.
    Change,
}

/// Implements [`Operator`] over an engine, a registry of people and whatever tells who is calling.
pub struct OperatorService<E, R, A> {
    engine: E,
    registry: R,
    callers: A,
    clock: Arc<dyn Clock>,
    state: PathBuf,
    exports: Exports,
    started: Timestamp,
}

impl<E, R, A> fmt::Debug for OperatorService<E, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorService").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<E: OperatorEngine, R: OperatorRegistry, A: Identify> OperatorService<E, R, A> {
    /// A service whose coordinator starts now. `state` is the state directory: exports are prepared below it, and its
    /// free space is told.
    pub fn new(engine: E, registry: R, callers: A, clock: Arc<dyn Clock>, state: PathBuf) -> Self {
        let (exports, started) = (Exports::new(&state), clock.now());
        Self { engine, registry, callers, clock, state, exports, started }
    }

    /// The caller, if its role allows the effect.
    fn caller<T>(&self, request: &Request<T>, effect: Effect) -> Result<ClientId, Status> {
        let peer = self.callers.identify(request, self.clock.now())?;
        let allowed = match peer.role {
            Role::Operator => true,
            Role::Auditor => effect == Effect::Look,
            Role::Client => false,
        };
        let what = if effect == Effect::Look { "look at the coordinator" } else { "change anything" };
        let words = || format!("the role {} may not {what}", peer.role.as_str());
        allowed.then_some(peer.client).ok_or_else(|| refuse(Code::PermissionDenied, WRONG_ROLE, words()))
    }

    /// Asks the registry, which may wait for a disk, off the threads that serve.
    async fn people<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&R, Timestamp) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let (registry, now) = (self.registry.clone(), self.clock.now());
        let answer = tokio::task::spawn_blocking(move || ask(&registry, now)).await;
        answer.map_err(|error| refuse(Code::Internal, INTERNAL, format!("the registry failed: {error}")))?
    }

    /// One client, and the number that it has.
    async fn client(&self, request: ClientRequest) -> Result<ClientSummary, Status> {
        if request.client_id.is_none() && request.name.is_empty() {
            return Err(refuse(Code::InvalidArgument, BAD_ARGUMENT, "neither a client's number nor its name is given"));
        }
        self.people(move |registry, _| registry.client(&request)).await
    }

    /// Adds what only the engine knows.
    async fn with_standing(&self, mut clients: Vec<ClientSummary>) -> Result<Vec<ClientSummary>, Status> {
        let standings = self.engine.standings().await?;
        for client in &mut clients {
            let Some(standing) = standings.get(&ClientId(client.client_id)) else { continue };
            client.rounds_accepted = standing.rounds_accepted;
            if standing.connected && client.state == "enrolled" {
                "connected".clone_into(&mut client.state);
            }
        }
        Ok(clients)
    }

    async fn one_with_standing(&self, client: ClientSummary) -> Result<Response<ClientSummary>, Status> {
        let mut clients = self.with_standing(vec![client]).await?;
        clients.pop().map(Response::new).ok_or_else(|| refuse(Code::Internal, INTERNAL, "the client is gone"))
    }

    async fn control(
        &self,
        request: Request<ControlRunRequest>,
        control: Control,
    ) -> Result<Response<RunSummary>, Status> {
        self.caller(&request, Effect::Change)?;
        let run = arguments::run(request.into_inner().run_id);
        self.engine.control(run, control).await.map(Response::new)
    }

    /// Bytes that the state directory can still take.
    fn disk_free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.state).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Nothing, where no particular run was asked for and there has been none yet.
fn if_any<T>(answer: Result<Vec<T>, Status>, run: Option<RunId>) -> Result<Vec<T>, Status> {
    match answer {
        Err(status) if run.is_none() && status.code() == Code::NotFound => Ok(Vec::new()),
        answer => answer,
    }
}

#[tonic::async_trait]
impl<E: OperatorEngine, R: OperatorRegistry, A: Identify> Operator for OperatorService<E, R, A> {
    type WatchRoundsStream = Answers<RoundDetail>;
    type EventsStream = Answers<Event>;
    type MetricsStream = Answers<RoundMetrics>;
    type ExportStream = Answers<FilePiece>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.caller(&request, Effect::Look)?;
        let clients = self.people(|registry, _| registry.clients()).await?;
        let enrolled = |client: &&ClientSummary| client.role == "client" && client.state != "revoked";
        Ok(Response::new(StatusResponse {
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started.0,
            run: self.engine.runs().await?.into_iter().next(),
            round: if_any(self.engine.rounds(None, 1).await, None)?.into_iter().next(),
            clients_enrolled: clients.iter().filter(enrolled).count() as u64,
            clients_connected: self.engine.connected() as u64,
            disk_free_bytes: self.disk_free_bytes(),
        }))
    }

    async fn start_run(&self, request: Request<StartRunRequest>) -> Result<Response<RunSummary>, Status> {
        self.caller(&request, Effect::Change)?;
        let request = request.into_inner();
        let (config, model) = arguments::job(&request.config_toml, &request.model_description_json)?;
        self.engine.start_run(config, model, request.idempotency_key).await.map(Response::new)
    }

    async fn pause_run(&self, request: Request<ControlRunRequest>) -> Result<Response<RunSummary>, Status> {
        self.control(request, Control::Pause).await
    }

    async fn resume_run(&self, request: Request<ControlRunRequest>) -> Result<Response<RunSummary>, Status> {
        self.control(request, Control::Resume).await
    }

    async fn stop_run(&self, request: Request<ControlRunRequest>) -> Result<Response<RunSummary>, Status> {
        self.control(request, Control::Stop).await
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        self.caller(&request, Effect::Look)?;
        Ok(Response::new(ListRunsResponse { runs: self.engine.runs().await? }))
    }

    async fn list_rounds(&self, request: Request<ListRoundsRequest>) -> Result<Response<ListRoundsResponse>, Status> {
        self.caller(&request, Effect::Look)?;
        let request = request.into_inner();
        let (run, limit) = (arguments::run(request.run_id), arguments::limit(request.limit));
        let rounds = if_any(self.engine.rounds(run, limit).await, run)?;
        Ok(Response::new(ListRoundsResponse { rounds }))
    }

    async fn show_round(&self, request: Request<ShowRoundRequest>) -> Result<Response<RoundDetail>, Status> {
        self.caller(&request, Effect::Look)?;
        let request = request.into_inner();
        let (run, round) = (arguments::run(request.run_id), arguments::round(request.round));
        let mut detail = self.engine.round_detail(run, round).await?;
        let named = move |registry: &R, _| {
            Names::new(registry.clone()).fill(&mut detail);
            Ok(detail)
        };
        self.people(named).await.map(Response::new)
    }

    async fn watch_rounds(
        &self,
        request: Request<WatchRoundsRequest>,
    ) -> Result<Response<Self::WatchRoundsStream>, Status> {
        let revocation = Revocation::of(self.caller(&request, Effect::Look)?, &self.registry);
        let source = sources::Rounds::new(self.engine.clone(), self.registry.clone());
        Ok(Response::new(stream(source, Some(self.engine.changes()), revocation)))
    }

    async fn list_clients(
        &self,
        request: Request<ListClientsRequest>,
    ) -> Result<Response<ListClientsResponse>, Status> {
        self.caller(&request, Effect::Look)?;
        let clients = self.people(|registry, _| registry.clients()).await?;
        Ok(Response::new(ListClientsResponse { clients: self.with_standing(clients).await? }))
    }

    async fn show_client(&self, request: Request<ClientRequest>) -> Result<Response<ClientSummary>, Status> {
        self.caller(&request, Effect::Look)?;
        let client = self.client(request.into_inner()).await?;
        self.one_with_standing(client).await
    }

    async fn revoke_client(&self, request: Request<ClientRequest>) -> Result<Response<ClientSummary>, Status> {
        let caller = self.caller(&request, Effect::Change)?;
        let id = ClientId(self.client(request.into_inner()).await?.client_id);
        if id == caller {
            let words = "this is the identity that is calling: revoke it with another operator's";
            return Err(refuse(Code::FailedPrecondition, OWN_IDENTITY, words));
        }
        // First what lasts, then what follows from it.
        let client = self.people(move |registry, now| registry.revoke(id, now)).await?;
        self.engine.expel(id).await;
        self.one_with_standing(client).await
    }

    async fn drain_client(&self, request: Request<ClientRequest>) -> Result<Response<ClientSummary>, Status> {
        self.caller(&request, Effect::Change)?;
        let id = ClientId(self.client(request.into_inner()).await?.client_id);
        let client = self.people(move |registry, _| registry.set_drained(id)).await?;
        self.engine.drain(id).await;
        self.one_with_standing(client).await
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        self.caller(&request, Effect::Change)?;
        let request = request.into_inner();
        let (summary, token) = self.people(move |registry, now| registry.create_token(request, now)).await?;
        Ok(Response::new(CreateTokenResponse { summary: Some(summary), token }))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        self.caller(&request, Effect::Look)?;
        let tokens = self.people(R::tokens).await?;
        Ok(Response::new(ListTokensResponse { tokens }))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Result<Response<TokenSummary>, Status> {
        self.caller(&request, Effect::Change)?;
        let id = request.into_inner().token_id;
        self.people(move |registry, now| registry.revoke_token(&id, now)).await.map(Response::new)
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let revocation = Revocation::of(self.caller(&request, Effect::Look)?, &self.registry);
        let request = request.into_inner();
        let source = sources::Events { engine: self.engine.clone(), after: request.after };
        Ok(Response::new(stream(source, request.follow.then(|| self.engine.changes()), revocation)))
    }

    async fn metrics(&self, request: Request<MetricsRequest>) -> Result<Response<Self::MetricsStream>, Status> {
        let revocation = Revocation::of(self.caller(&request, Effect::Look)?, &self.registry);
        let request = request.into_inner();
        let run = arguments::run(request.run_id);
        let source = sources::Metrics::new(self.engine.clone(), run, request.after_round);
        Ok(Response::new(stream(source, request.follow.then(|| self.engine.changes()), revocation)))
    }

    async fn list_checkpoints(
        &self,
        request: Request<ListCheckpointsRequest>,
    ) -> Result<Response<ListCheckpointsResponse>, Status> {
        self.caller(&request, Effect::Look)?;
        let run = arguments::run(request.into_inner().run_id);
        let checkpoints = if_any(self.engine.checkpoints(run).await, run)?;
        Ok(Response::new(ListCheckpointsResponse { checkpoints }))
    }

    async fn restore_checkpoint(
        &self,
        request: Request<RestoreCheckpointRequest>,
    ) -> Result<Response<RunSummary>, Status> {
        self.caller(&request, Effect::Change)?;
        let request = request.into_inner();
        self.engine.restore(RunId(request.run_id), RoundId(request.round)).await.map(Response::new)
    }

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        self.caller(&request, Effect::Look)?;
        let request = request.into_inner();
        let (run, round) = (arguments::run(request.run_id), request.round.map(RoundId));
        let (adapter, options) = self.engine.export(run, round).await?;
        Ok(Response::new(self.exports.stream(adapter, options)))
    }
}
