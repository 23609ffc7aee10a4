//! An engine that keeps books: what it was asked, and what it would count.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use fedlora_adapter::{Adapter, ClientId, Digest, RoundId};
use fedlora_coordinator::{
    CurrentRound, CurrentRun, Push, ReasonCode, Receipt, RunId, SessionId, UpdateMeta, Verdict,
    grpc::{Authenticate, Rounds, RoundsError},
};
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status};

/// Clients from this number on are enrolled, but not invited.
pub(crate) const NOT_INVITED: u64 = 90;

/// What would decide a round's result, and what clients said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Books {
    pub(crate) accepted: BTreeMap<ClientId, (Digest, u64)>,
    pub(crate) refused: Vec<(ClientId, ReasonCode)>,
    pub(crate) connected: Vec<(ClientId, u64)>,
    pub(crate) disconnected: Vec<ClientId>,
    pub(crate) progress: Vec<(ClientId, RoundId, u64)>,
    pub(crate) declined: Vec<(ClientId, RoundId, String)>,
}

#[derive(Default)]
struct State {
    run: Option<Arc<CurrentRun>>,
    round: Option<Arc<CurrentRound>>,
    global: Option<Arc<Adapter>>,
    sessions: BTreeMap<ClientId, (SessionId, mpsc::Sender<Push>)>,
    receipts: BTreeMap<(ClientId, RoundId, Digest), Receipt>,
    books: Books,
    next_session: u64,
    disk_full: bool,
}

/// The fake engine.
#[derive(Clone)]
pub(crate) struct FakeEngine {
    folder: PathBuf,
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    revoked: watch::Sender<Option<ClientId>>,
}

impl FakeEngine {
    pub(crate) fn new(folder: &Path) -> Self {
        for part in ["blobs", "spool"] {
            fs::create_dir(folder.join(part)).expect("a writable folder");
        }
        let (state, changes, revoked) = (Arc::default(), watch::Sender::new(0), watch::Sender::new(None));
        Self { folder: folder.to_owned(), state, changes, revoked }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().expect("no panics"));
        self.changes.send_modify(|number| *number += 1);
        result
    }

    pub(crate) fn books(&self) -> Books {
        self.with(|state| state.books.clone())
    }

    /// Waits until the books say so.
    pub(crate) async fn until(&self, condition: impl Fn(&Books) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(&self.state.lock().expect("no panics").books) {
            changes.changed().await.expect("the engine lives");
        }
    }

    pub(crate) fn open(&self, run: CurrentRun, round: Option<CurrentRound>, global: Adapter) {
        self.with(|state| {
            state.run = Some(Arc::new(run));
            state.round = round.map(Arc::new);
            state.global = Some(Arc::new(global));
        });
    }

    pub(crate) fn close_round(&self) {
        self.with(|state| state.round = None);
    }

    pub(crate) fn fill_disk(&self, full: bool) {
        self.with(|state| state.disk_full = full);
    }

    pub(crate) fn revoke(&self, client: ClientId) {
        self.revoked.send_replace(Some(client));
    }

    pub(crate) async fn push(&self, client: ClientId, push: Push) {
        let sender = self.with(|state| state.sessions.get(&client).expect("connected").1.clone());
        sender.send(push).await.expect("the session lives");
    }

    /// What an engine of sessions is over: their channels close.
    pub(crate) fn stop(&self) {
        self.with(|state| state.sessions.clear());
    }

    fn judge(&self, meta: UpdateMeta, failed: Option<(ReasonCode, String)>) -> Receipt {
        let reject = |verdict, reason: ReasonCode, detail: String| Receipt { verdict, reason: Some(reason), detail };
        self.with(|state| {
            let receipt = match failed {
                Some((code, detail)) => {
                    let verdict = match code {
                        ReasonCode::UnknownRun | ReasonCode::StaleRound | ReasonCode::FutureRound => Verdict::Late,
                        _ => Verdict::Rejected,
                    };
                    state.books.refused.push((meta.client, code));
                    return reject(verdict, code, detail);
                }
                None if state.round.as_ref().is_none_or(|round| round.plan.round != meta.round) => {
                    return reject(Verdict::Late, ReasonCode::StaleRound, "closed meanwhile".to_owned());
                }
                None if meta.client.0 >= NOT_INVITED => {
                    return reject(Verdict::NotInvited, ReasonCode::NotInvited, "not in the cohort".to_owned());
                }
                None => match state.books.accepted.get(&meta.client) {
                    Some((digest, _)) if *digest == meta.blob => {
                        Receipt { verdict: Verdict::Duplicate, reason: None, detail: String::new() }
                    }
                    Some(_) => {
                        return reject(Verdict::Conflict, ReasonCode::AlreadySubmitted, "the first wins".to_owned());
                    }
                    None => Receipt { verdict: Verdict::Accepted, reason: None, detail: String::new() },
                },
            };
            state.books.accepted.insert(meta.client, (meta.blob, meta.examples));
            state.receipts.insert((meta.client, meta.round, meta.blob), receipt.clone());
            receipt
        })
    }
}

impl Rounds for FakeEngine {
    fn run(&self) -> Option<Arc<CurrentRun>> {
        self.state.lock().expect("no panics").run.clone()
    }

    fn round(&self) -> Option<Arc<CurrentRound>> {
        self.state.lock().expect("no panics").round.clone()
    }

    fn global(&self) -> Option<Arc<Adapter>> {
        self.state.lock().expect("no panics").global.clone()
    }

    fn connected(&self) -> usize {
        self.state.lock().expect("no panics").sessions.len()
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.to_hex())
    }

    fn spool_path(&self, client: ClientId, digest: Digest) -> PathBuf {
        self.folder.join("spool").join(format!("{client}-{}", digest.to_hex()))
    }

    fn adopt(&self, spooled: &Path, digest: Digest) -> Result<(), RoundsError> {
        if self.state.lock().expect("no panics").disk_full {
            return Err(RoundsError::Storage(io::ErrorKind::StorageFull.into()));
        }
        fs::rename(spooled, self.blob_path(digest)).map_err(RoundsError::Storage)
    }

    async fn connect(&self, client: ClientId, examples: u64) -> Result<(SessionId, mpsc::Receiver<Push>), RoundsError> {
        let (sender, receiver) = mpsc::channel(4);
        let (session, older) = self.with(|state| {
            state.next_session += 1;
            let session = SessionId(state.next_session);
            state.books.connected.push((client, examples));
            (session, state.sessions.insert(client, (session, sender)))
        });
        if let Some((_, older)) = older {
            // A session that is over has no receiver any more.
            let _ = older.send(Push::End("superseded")).await;
        }
        Ok((session, receiver))
    }

    async fn disconnect(&self, client: ClientId, session: SessionId) {
        self.with(|state| {
            if state.sessions.get(&client).is_some_and(|(open, _)| *open == session) {
                state.sessions.remove(&client);
                state.books.disconnected.push(client);
            }
        });
    }

    async fn progress(&self, client: ClientId, _: SessionId, round: RoundId, steps_done: u64) {
        self.with(|state| state.books.progress.push((client, round, steps_done)));
    }

    async fn decline(&self, client: ClientId, _: SessionId, round: RoundId, reason: String) {
        self.with(|state| state.books.declined.push((client, round, reason)));
    }

    async fn submit(&self, meta: UpdateMeta) -> Result<Receipt, RoundsError> {
        assert!(self.blob_path(meta.blob).exists(), "a blob is durable before it is handed in");
        Ok(self.judge(meta, None))
    }

    async fn refuse(&self, meta: UpdateMeta, code: ReasonCode, detail: String) -> Result<Receipt, RoundsError> {
        Ok(self.judge(meta, Some((code, detail))))
    }

    async fn receipt(
        &self,
        client: ClientId,
        _: RunId,
        round: RoundId,
        blob: Digest,
    ) -> Result<Option<Receipt>, RoundsError> {
        Ok(self.with(|state| state.receipts.get(&(client, round, blob)).cloned()))
    }
}

/// Takes the caller's word for who it is.
#[derive(Clone)]
pub(crate) struct Trusting(pub(crate) FakeEngine);

impl Authenticate for Trusting {
    fn client<T>(&self, request: &Request<T>) -> Result<ClientId, Status> {
        let id = request.metadata().get("fedlora-client-id").and_then(|id| id.to_str().ok()?.parse().ok());
        id.map(ClientId).ok_or_else(|| Status::unauthenticated("no fedlora-client-id"))
    }

    fn revoked(&self, client: ClientId) -> impl Future<Output = ()> + Send + 'static {
        let mut revoked = self.0.revoked.subscribe();
        async move {
            if revoked.wait_for(|revoked| *revoked == Some(client)).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
