//! Stand-ins for the engine and the register: what the service asks is answered from what a test has put there.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use fedlora_adapter::{Adapter, ClientId, PeftOptions, RoundId};
use fedlora_coordinator::{
    Clock, Control, CurrentRun, ModelDescription, Peer, Role, RunId, Standing, Timestamp,
    config::RunConfig,
    operator::{Identify, OperatorEngine, OperatorRegistry, OperatorService},
};
use fedlora_proto::operator::{
    Checkpoint, ClientRequest, ClientSummary, CreateTokenRequest, Event, RoundDetail, RoundMetrics, RoundSummary,
    RunSummary, TokenSummary,
};
use tokio::sync::{broadcast, watch};
use tonic::{Request, Status};

/// 24 November 2026, 18:00:00 UTC.
pub(crate) const NOW: u64 = 1_795_543_200_000;

/// What the stand-ins know.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) live: Option<Arc<CurrentRun>>,
    pub(crate) runs: Vec<RunSummary>,
    /// Of all runs, oldest first.
    pub(crate) rounds: Vec<RoundDetail>,
    pub(crate) events: Vec<Event>,
    pub(crate) metrics: Vec<RoundMetrics>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) standings: BTreeMap<ClientId, Standing>,
    pub(crate) clients: Vec<ClientSummary>,
    pub(crate) tokens: Vec<TokenSummary>,
    pub(crate) adapter: Option<Adapter>,
    pub(crate) is_stopped: bool,
    /// What was changed, in order.
    pub(crate) calls: Vec<String>,
}

/// Engine and register in one, shared between the service and the test.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    known: Arc<Mutex<Known>>,
    changes: watch::Sender<u64>,
    revocations: broadcast::Sender<ClientId>,
}

/// Tells the caller by the access token, which is the role's own name, and lets it be client 7.
#[derive(Debug)]
pub(crate) struct ByToken;

/// A clock that stands.
#[derive(Debug)]
struct Standstill;

impl Clock for Standstill {
    fn now(&self) -> Timestamp {
        Timestamp(NOW)
    }
}

impl Fake {
    pub(crate) fn new(known: Known) -> Self {
        Self {
            known: Arc::new(Mutex::new(known)),
            changes: watch::Sender::new(0),
            revocations: broadcast::channel(4).0,
        }
    }

    pub(crate) fn service(&self, state: PathBuf) -> OperatorService<Self, Self, ByToken> {
        OperatorService::new(self.clone(), self.clone(), ByToken, Arc::new(Standstill), state)
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no test panics while it holds the lock")
    }

    /// Changes something and tells those who wait.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known());
        self.changes.send_modify(|number| *number += 1);
    }

    /// Tells that a client is revoked.
    pub(crate) fn announce_revocation(&self, client: u64) {
        self.revocations.send(ClientId(client)).expect("somebody listens");
    }

    /// Waits until no stream waits for changes.
    pub(crate) async fn unfollowed(&self) {
        self.changes.closed().await;
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.known().calls.clone()
    }

    fn run_id(&self, run: Option<RunId>) -> Result<u64, Status> {
        let known = self.known();
        let live = known.live.as_ref().map(|run| run.id.0);
        let found = run.map(|run| run.0).or(live).or(known.runs.first().map(|run| run.run_id));
        found.ok_or_else(|| Status::not_found("there has been no run yet"))
    }

    fn check_running(&self) -> Result<(), Status> {
        let stopped = self.known().is_stopped;
        if stopped { Err(Status::unavailable("the coordinator is shutting down")) } else { Ok(()) }
    }

    fn call(&self, call: String) {
        self.known().calls.push(call);
    }

    fn first_run(&self) -> Result<RunSummary, Status> {
        self.known().runs.first().cloned().ok_or_else(|| Status::not_found("no run is live"))
    }

    fn find(&self, wanted: impl Fn(&ClientSummary) -> bool, what: &str) -> Result<ClientSummary, Status> {
        let found = self.known().clients.iter().find(|client| wanted(client)).cloned();
        found.ok_or_else(|| Status::not_found(format!("no client is called or numbered {what:?}")))
    }
}

pub(crate) fn number(detail: &RoundDetail) -> u64 {
    detail.summary.as_ref().map_or(0, |summary| summary.round)
}

fn run_of(detail: &RoundDetail) -> u64 {
    detail.summary.as_ref().map_or(0, |summary| summary.run_id)
}

impl OperatorEngine for Fake {
    fn run(&self) -> Option<Arc<CurrentRun>> {
        self.known().live.clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn connected(&self) -> usize {
        self.known().standings.values().filter(|standing| standing.connected).count()
    }

    async fn standings(&self) -> Result<BTreeMap<ClientId, Standing>, Status> {
        Ok(self.known().standings.clone())
    }

    async fn start_run(
        &self,
        config: RunConfig,
        model: ModelDescription,
        idempotency_key: String,
    ) -> Result<RunSummary, Status> {
        let (rank, base, key) = (config.lora.r, model.base_model, idempotency_key);
        self.call(format!("start {} r={rank} on {base} once for {key}", config.method.name));
        self.first_run()
    }

    async fn control(&self, run: Option<RunId>, control: Control) -> Result<RunSummary, Status> {
        self.call(format!("{control:?} {run:?}"));
        self.first_run()
    }

    async fn restore(&self, run: RunId, round: RoundId) -> Result<RunSummary, Status> {
        self.call(format!("restore {run} {round}"));
        self.first_run()
    }

    async fn runs(&self) -> Result<Vec<RunSummary>, Status> {
        Ok(self.known().runs.clone())
    }

    async fn rounds(&self, run: Option<RunId>, limit: usize) -> Result<Vec<RoundSummary>, Status> {
        self.check_running()?;
        let run = self.run_id(run)?;
        let known = self.known();
        let of_run = known.rounds.iter().rev().filter(|detail| run_of(detail) == run);
        Ok(of_run.filter_map(|detail| detail.summary.clone()).take(limit).collect())
    }

    async fn round_detail(&self, run: Option<RunId>, round: Option<RoundId>) -> Result<RoundDetail, Status> {
        let run = self.run_id(run)?;
        let wanted =
            |detail: &&RoundDetail| run_of(detail) == run && round.is_none_or(|round| number(detail) == round.0);
        let found = self.known().rounds.iter().rev().find(wanted).cloned();
        found.ok_or_else(|| Status::not_found(format!("run {run} has no such round")))
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, Status> {
        self.check_running()?;
        let known = self.known();
        Ok(known.events.iter().filter(|event| event.number > after).take(limit).cloned().collect())
    }

    async fn metrics(&self, run: Option<RunId>, after_round: u64) -> Result<Vec<RoundMetrics>, Status> {
        let run = self.run_id(run)?;
        let wanted = |metrics: &&RoundMetrics| {
            metrics.summary.as_ref().is_some_and(|summary| summary.run_id == run && summary.round > after_round)
        };
        Ok(self.known().metrics.iter().filter(wanted).cloned().collect())
    }

    async fn checkpoints(&self, run: Option<RunId>) -> Result<Vec<Checkpoint>, Status> {
        let run = self.run_id(run)?;
        Ok(self.known().checkpoints.iter().filter(|checkpoint| checkpoint.run_id == run).cloned().collect())
    }

    async fn export(&self, _: Option<RunId>, round: Option<RoundId>) -> Result<(Adapter, PeftOptions), Status> {
        let options = PeftOptions { base_model: "tiny-bert".to_owned(), task_type: None, dropout: 0.0 };
        let known = self.known();
        let adapter = known.adapter.clone().filter(|_| round.is_none_or(|round| round.0 < 9));
        adapter.map(|adapter| (adapter, options)).ok_or_else(|| Status::not_found("no such round is published"))
    }

    async fn drain(&self, client: ClientId) {
        self.call(format!("drain {client}"));
    }

    async fn expel(&self, client: ClientId) {
        self.call(format!("expel {client}"));
    }
}

impl OperatorRegistry for Fake {
    fn create_token(&self, request: CreateTokenRequest, now: Timestamp) -> Result<(TokenSummary, String), Status> {
        let CreateTokenRequest { name, institution, role, ttl_ms, client_id } = request;
        self.call(format!("create token {name} {institution:?} {role} {ttl_ms} ms {client_id:?}"));
        let institution = if institution.is_empty() { name.clone() } else { institution };
        let token = TokenSummary {
            token_id: "5f0c2a7e".to_owned(),
            name,
            institution,
            role,
            created_ms: now.0,
            expires_ms: now.0 + ttl_ms,
            state: "open".to_owned(),
        };
        Ok((token, "fl1_secret".to_owned()))
    }

    fn tokens(&self, _: Timestamp) -> Result<Vec<TokenSummary>, Status> {
        Ok(self.known().tokens.clone())
    }

    fn revoke_token(&self, token_id: &str, _: Timestamp) -> Result<TokenSummary, Status> {
        self.call(format!("revoke token {token_id}"));
        let found = self.known().tokens.iter().find(|token| token.token_id == token_id).cloned();
        found.ok_or_else(|| Status::not_found(format!("no token has the identifier {token_id:?}")))
    }

    fn clients(&self) -> Result<Vec<ClientSummary>, Status> {
        Ok(self.known().clients.clone())
    }

    fn client(&self, request: &ClientRequest) -> Result<ClientSummary, Status> {
        match request.client_id {
            Some(number) => self.find(|client| client.client_id == number, &number.to_string()),
            None => self.find(|client| client.name == request.name, &request.name),
        }
    }

    fn revoke(&self, client: ClientId, now: Timestamp) -> Result<ClientSummary, Status> {
        self.call(format!("revoke {client} at {}", now.0));
        let found = self.find(|summary| summary.client_id == client.0, "")?;
        Ok(ClientSummary { state: "revoked".to_owned(), ..found })
    }

    fn set_drained(&self, client: ClientId) -> Result<ClientSummary, Status> {
        self.call(format!("set drained {client}"));
        let found = self.find(|summary| summary.client_id == client.0, "")?;
        Ok(ClientSummary { state: "drained".to_owned(), ..found })
    }

    fn revocations(&self) -> broadcast::Receiver<ClientId> {
        self.revocations.subscribe()
    }
}

impl Identify for ByToken {
    fn identify<T>(&self, request: &Request<T>, _: Timestamp) -> Result<Peer, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let role = match header {
            Some("Bearer operator") => Role::Operator,
            Some("Bearer auditor") => Role::Auditor,
            Some("Bearer client") => Role::Client,
            _ => return Err(Status::unauthenticated("this call needs an access token")),
        };
        Ok(Peer { client: ClientId(7), name: "ops".to_owned(), institution: "ops".to_owned(), role })
    }
}
