//! A coordinator of one client, made of memory: it plays rounds, breaks calls where it is told to, and remembers.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use fedlora_adapter::{Adapter, AdapterUpdate, Digest, Directive, RoundId, RoundPlan, encode};
use fedlora_proto::{
    digest_bytes,
    federation::{
        AdapterSpec as WireSpec, Chunk, ClientMessage, Decline, DownloadRequest, EnrolRequest, EnrolResponse, Hello,
        Receipt, RenewRequest, RoundClosed, RoundPlan as WirePlan, Run, RunFinished, ServerMessage, Task, UploadHeader,
        UploadMessage, UploadStatusRequest, UploadStatusResponse, Verdict, Welcome, client_message,
        federation_server::{Federation, FederationServer},
        identity_server::{Identity, IdentityServer},
        server_message::Kind,
        upload_message,
    },
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::support::{ALL, base_model, local};

/// Longest wait for something that must happen; only a failing test waits for so long.
const PATIENCE: Duration = Duration::from_mins(1);
const CHUNK: usize = 1 << 20;

type Outgoing = mpsc::Sender<Result<ServerMessage, Status>>;
type Pushes = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

/// What it knows and what it heard.
pub(crate) struct Book {
    global: Adapter,
    blob: Vec<u8>,
    directive: Directive,
    rounds: u64,
    /// The open round; 0 for none.
    round: u64,
    /// Advance to the next round with each accepted update.
    advances: bool,
    /// The run is over, and nobody is told.
    pub(crate) ended: bool,
    /// Answers to calls of Download, before any chunk.
    pub(crate) lost_blobs: VecDeque<Status>,
    sessions: Vec<Outgoing>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) tokens: Vec<String>,
    pub(crate) declines: Vec<Decline>,
    /// Answers to calls of Participate, before any session.
    pub(crate) refusals: VecDeque<Status>,
    /// Break the next uploads after so many chunks.
    pub(crate) upload_breaks: VecDeque<usize>,
    /// Break the next downloads after so many chunks.
    pub(crate) download_breaks: VecDeque<usize>,
    /// Offset and length of every chunk that came.
    pub(crate) chunks: Vec<(u64, usize)>,
    spool: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Headers and bytes of whole updates.
    pub(crate) updates: Vec<(UploadHeader, Vec<u8>)>,
    pub(crate) uploads: usize,
    pub(crate) downloads: Vec<u64>,
    pub(crate) ended_sessions: usize,
}

impl Book {
    fn spec_digest(&self) -> Digest {
        self.global.spec().digest()
    }

    fn run(&self) -> Run {
        Run {
            run_id: 3,
            name: "trial".to_owned(),
            spec: Some(WireSpec::from(&**self.global.spec())),
            base_model: digest_bytes(base_model()),
            labels: vec!["no".to_owned(), "yes".to_owned()],
        }
    }

    fn task(&self) -> ServerMessage {
        let plan = RoundPlan {
            run: "trial".to_owned(),
            round: RoundId(self.round),
            num_rounds: self.rounds,
            directive: self.directive,
            spec: self.spec_digest(),
            base: self.global.digest(),
            seed: 1,
            local: local(),
        };
        message(Kind::Task(Task {
            run_id: 3,
            plan: Some(WirePlan::from(&plan)),
            blob: digest_bytes(Digest::of(&self.blob)),
            blob_bytes: self.blob.len() as u64,
            deadline_ms: 0,
        }))
    }

    fn push(&mut self, message: &ServerMessage) {
        // A session that is gone stays gone.
        self.sessions.retain(|session| session.try_send(Ok(message.clone())).is_ok());
    }

    fn advance(&mut self) {
        let closed = RoundClosed { run_id: 3, round: self.round };
        self.push(&message(Kind::RoundClosed(closed)));
        if self.round == self.rounds {
            self.round = 0;
            let finished = RunFinished { run_id: 3, status: "finished:completed".to_owned() };
            self.push(&message(Kind::RunFinished(finished)));
        } else {
            self.round += 1;
            let task = self.task();
            self.push(&task);
        }
    }

    fn answered(&self, round: u64) -> bool {
        self.updates.iter().any(|(header, _)| header.round == round)
    }
}

struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no test thread panicked")
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.changed.notify_all();
        outcome
    }
}

/// A coordinator at an address of its own.
pub(crate) struct Coordinator {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Coordinator {
    /// A coordinator of a run of so many rounds that start from `global`.
    pub(crate) fn start(global: Adapter, rounds: u64) -> Self {
        let shared = Arc::new(Shared { book: Mutex::new(book(global, rounds)), changed: Condvar::new() });
        let (runtime, address) = serve(&shared, "127.0.0.1:0".parse().expect("an address"));
        Self { address, shared, runtime: Some(runtime) }
    }

    pub(crate) fn with_directive(self, directive: Directive) -> Self {
        self.change(|book| book.directive = directive);
        self
    }

    /// Rounds close only when the test says so.
    pub(crate) fn by_hand(self) -> Self {
        self.change(|book| book.advances = false);
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        self.shared.change(change)
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Breaks all connections and forgets all sessions, as a killed process does, and comes back with the same book.
    pub(crate) fn restart(&mut self) {
        self.runtime.take().expect("running").shutdown_timeout(PATIENCE);
        self.change(|book| book.sessions.clear());
        self.runtime = Some(serve(&self.shared, self.address).0);
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Watches and steers a coordinator from a trainer's thread.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    /// Waits until the book is as asked.
    pub(crate) fn wait(&self, condition: impl Fn(&Book) -> bool) {
        let book = self.0.lock();
        let waited = self.0.changed.wait_timeout_while(book, PATIENCE, |book| !condition(book));
        let timed_out = waited.expect("no test thread panicked").1.timed_out();
        assert!(!timed_out, "what the test waits for did not happen");
    }

    /// Closes the open round whether or not its update has come.
    pub(crate) fn close_round(&self) {
        self.0.change(Book::advance);
    }

    /// Ends all sessions with a status.
    pub(crate) fn end_sessions(&self, status: &Status) {
        self.0.change(|book| {
            for session in book.sessions.drain(..) {
                session.try_send(Err(status.clone())).expect("room");
            }
        });
    }
}

fn book(global: Adapter, rounds: u64) -> Book {
    let whole = AdapterUpdate::select(&global, ALL);
    let blob =
        encode(whole.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()))).expect("encodable");
    Book {
        global,
        blob,
        directive: ALL,
        rounds,
        round: 1,
        advances: true,
        ended: false,
        lost_blobs: VecDeque::new(),
        sessions: Vec::new(),
        hellos: Vec::new(),
        tokens: Vec::new(),
        declines: Vec::new(),
        refusals: VecDeque::new(),
        upload_breaks: VecDeque::new(),
        download_breaks: VecDeque::new(),
        chunks: Vec::new(),
        spool: BTreeMap::new(),
        updates: Vec::new(),
        uploads: 0,
        downloads: Vec::new(),
        ended_sessions: 0,
    }
}

fn serve(shared: &Arc<Shared>, address: SocketAddr) -> (Runtime, SocketAddr) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let listener = runtime.block_on(TcpListener::bind(address)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = Service(Arc::clone(shared));
    let federation = FederationServer::new(service.clone()).max_decoding_message_size(2 * CHUNK);
    let server = Server::builder().add_service(federation).add_service(IdentityServer::new(service));
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (runtime, address)
}

fn message(kind: Kind) -> ServerMessage {
    ServerMessage { kind: Some(kind) }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

impl Service {
    fn welcome(&self, hello: Hello, outgoing: Outgoing) {
        self.0.change(|book| {
            book.hellos.push(hello);
            let (heartbeat_interval_ms, run) = (3_600_000, (!book.ended).then(|| book.run()));
            let welcome = Welcome { client_id: 5, heartbeat_interval_ms, server_time_ms: 0, run };
            outgoing.try_send(Ok(message(Kind::Welcome(welcome)))).expect("room");
            if book.round > 0 && !book.ended && !book.answered(book.round) {
                outgoing.try_send(Ok(book.task())).expect("room");
            }
            book.sessions.push(outgoing);
        });
    }

    async fn listen(self, mut incoming: Streaming<ClientMessage>, outgoing: Outgoing) {
        while let Ok(Some(message)) = incoming.message().await {
            match message.kind {
                Some(client_message::Kind::Hello(hello)) => self.welcome(hello, outgoing.clone()),
                Some(client_message::Kind::Decline(decline)) => self.0.change(|book| book.declines.push(decline)),
                Some(client_message::Kind::Heartbeat(_)) | None => {}
            }
        }
        self.0.change(|book| {
            book.ended_sessions += 1;
            book.sessions.retain(|session| !session.same_channel(&outgoing));
        });
    }

    fn complete(&self, header: UploadHeader, bytes: Vec<u8>) -> Receipt {
        let digest = digest_bytes(Digest::of(&bytes));
        assert_eq!(digest, header.blake3, "the bytes are not those that were announced");
        self.0.change(|book| {
            let verdict = if header.round == book.round { Verdict::Accepted } else { Verdict::Late };
            book.updates.push((header, bytes));
            if book.advances {
                book.advance();
            }
            Receipt { verdict: verdict.into(), reason: String::new(), detail: String::new() }
        })
    }
}

#[tonic::async_trait]
impl Federation for Service {
    type ParticipateStream = Pushes;
    type DownloadStream = Chunks;

    async fn participate(&self, request: Request<Streaming<ClientMessage>>) -> Result<Response<Pushes>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.unwrap_or_default().to_owned();
        let refusal = self.0.change(|book| {
            book.tokens.push(token);
            book.refusals.pop_front()
        });
        if let Some(status) = refusal {
            return Err(status);
        }
        let (outgoing, pushes) = mpsc::channel(64);
        tokio::spawn(self.clone().listen(request.into_inner(), outgoing));
        Ok(Response::new(Box::pin(ReceiverStream::new(pushes))))
    }

    async fn download(&self, request: Request<DownloadRequest>) -> Result<Response<Chunks>, Status> {
        let request = request.into_inner();
        let (blob, limit, lost) = self.0.change(|book| {
            book.downloads.push(request.offset);
            (book.blob.clone(), book.download_breaks.pop_front(), book.lost_blobs.pop_front())
        });
        if let Some(status) = lost {
            return Err(status);
        }
        let rest = blob[request.offset as usize..].to_vec();
        let mut offset = request.offset;
        let mut chunks = Vec::new();
        for data in rest.chunks(CHUNK) {
            if limit.is_some_and(|limit| chunks.len() >= limit) {
                break;
            }
            let crc32c = crc32c::crc32c(data);
            chunks.push(Ok(Chunk { offset, data: data.to_vec().into(), crc32c }));
            offset += data.len() as u64;
        }
        chunks.extend(limit.map(|_| Err(Status::unavailable("broken by the test"))));
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn upload(&self, request: Request<Streaming<UploadMessage>>) -> Result<Response<Receipt>, Status> {
        let mut incoming = request.into_inner();
        let mut limit = self.0.change(|book| {
            book.uploads += 1;
            book.upload_breaks.pop_front()
        });
        let mut header = None;
        while let Some(message) = incoming.next().await {
            match message?.kind {
                Some(upload_message::Kind::Header(found)) => {
                    header = Some(found);
                    if limit == Some(0) {
                        return Err(Status::unavailable("broken by the test"));
                    }
                }
                Some(upload_message::Kind::Chunk(chunk)) => {
                    let header: &UploadHeader = header.as_ref().expect("the header comes first");
                    assert_eq!(crc32c::crc32c(&chunk.data), chunk.crc32c);
                    self.0.change(|book| {
                        book.chunks.push((chunk.offset, chunk.data.len()));
                        let spool = book.spool.entry(header.blake3.to_vec()).or_default();
                        assert_eq!(spool.len() as u64, chunk.offset, "a gap, or bytes sent twice");
                        spool.extend_from_slice(&chunk.data);
                    });
                    limit = limit.map(|left| left - 1);
                    if limit == Some(0) {
                        return Err(Status::unavailable("broken by the test"));
                    }
                }
                None => {}
            }
        }
        let header = header.expect("an upload has a header");
        let bytes = self.0.change(|book| book.spool.get(&header.blake3.to_vec()).cloned()).unwrap_or_default();
        if (bytes.len() as u64) < header.size_bytes {
            return Err(Status::unavailable("the upload ended early"));
        }
        Ok(Response::new(self.complete(header, bytes)))
    }

    async fn upload_status(
        &self,
        request: Request<UploadStatusRequest>,
    ) -> Result<Response<UploadStatusResponse>, Status> {
        let blake3 = request.into_inner().blake3.to_vec();
        let committed = self.0.lock().spool.get(&blake3).map_or(0, Vec::len);
        Ok(Response::new(UploadStatusResponse { committed_bytes: committed as u64, receipt: None }))
    }
}

#[tonic::async_trait]
impl Identity for Service {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        if request.token != "fl1_good" {
            return Err(Status::permission_denied("this token was used before"));
        }
        Ok(Response::new(answer(&request.csr_pem)))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<EnrolResponse>, Status> {
        Ok(Response::new(answer(&request.into_inner().csr_pem)))
    }
}

/// A certificate for the key of a request, by an authority made on the spot.
fn answer(csr_pem: &str) -> EnrolResponse {
    let request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).expect("a request");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(params, key);
    let certificate = request.signed_by(&issuer).expect("a certificate");
    EnrolResponse {
        certificate_pem: certificate.pem(),
        ca_pem: String::new(),
        client_id: 5,
        name: "north".to_owned(),
        not_after_ms: 1,
        access_token: "open-sesame".to_owned(),
    }
}
