//! A coordinator without a network: HTTP/2 over pipes in memory.

use std::{fs, io, sync::Arc};

use fedlora_adapter::{ClientId, Digest};
use fedlora_coordinator::{
    Timestamp,
    grpc::{FederationService, Gate, RateLimits, Rounds, Settings, server},
    metrics::Metrics,
};
use fedlora_proto::{
    PROTOCOL_VERSION, digest_bytes,
    federation::{
        Chunk, ClientMessage, Hello, Receipt, ServerMessage, UploadHeader, UploadMessage, UploadStatusRequest,
        UploadStatusResponse, client_message, federation_client::FederationClient, server_message,
        upload_message::Kind,
    },
};
use hyper_util::rt::TokioIo;
use tokio::{io::duplex, sync::mpsc, task::JoinHandle};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    engine::{FakeEngine, Trusting},
    files::{self, STEPS},
};

/// Width of the module in most tests: a file of about 600 bytes.
pub(crate) const WIDTH: usize = 8;

pub(crate) struct World {
    pub(crate) engine: FakeEngine,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) blob: Vec<u8>,
    pub(crate) width: usize,
    channel: Channel,
    _folder: tempfile::TempDir,
}

impl World {
    /// A coordinator with an open round.
    pub(crate) fn new() -> Self {
        Self::with(WIDTH, Settings::default(), RateLimits::default())
    }

    pub(crate) fn with(width: usize, settings: Settings, limits: RateLimits) -> Self {
        let world = Self::idle(width, settings, limits);
        world.open();
        world
    }

    /// A coordinator without a run.
    pub(crate) fn idle(width: usize, settings: Settings, limits: RateLimits) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = FakeEngine::new(folder.path());
        let metrics = Arc::new(Metrics::default());
        let service = FederationService::new(
            engine.clone(),
            Trusting(engine.clone()),
            Arc::new(|| Timestamp(42)),
            Arc::new(Gate::new(limits)),
            settings,
            Arc::clone(&metrics),
        );
        let (connections, incoming) = mpsc::channel::<io::Result<tokio::io::DuplexStream>>(8);
        let router = server().add_service(service.into_server());
        tokio::spawn(router.serve_with_incoming(ReceiverStream::new(incoming)));
        let channel = channel(connections);
        let blob = files::bytes(&files::global(width));
        Self { engine, metrics, blob, width, channel, _folder: folder }
    }

    /// Opens the round.
    pub(crate) fn open(&self) {
        fs::write(self.engine.blob_path(Digest::of(&self.blob)), &self.blob).expect("a writable folder");
        let round = files::round(self.width, &self.blob);
        self.engine.open(files::run(self.width), Some(round), files::global(self.width));
    }

    pub(crate) fn client(&self) -> FederationClient<Channel> {
        FederationClient::new(self.channel.clone())
    }

    pub(crate) async fn upload(
        &self,
        client: u64,
        messages: impl Stream<Item = UploadMessage> + Send + 'static,
    ) -> Result<Receipt, Status> {
        self.client().upload(from(client, messages)).await.map(tonic::Response::into_inner)
    }

    /// Uploads a file as an honest client does, in chunks of `size`.
    pub(crate) async fn upload_file(&self, client: u64, file: &[u8], size: usize) -> Result<Receipt, Status> {
        self.upload(client, tokio_stream::iter(messages(self.header(file), chunks(file, 0, size)))).await
    }

    /// Begins an upload that falls silent behind its first 100 bytes; returns when they are there.
    pub(crate) async fn begin_upload(&self, client: u64, file: &[u8]) -> JoinHandle<Result<Response<Receipt>, Status>> {
        let part = then_silent(messages(self.header(file), chunks(file, 0, 100)[..1].to_vec()));
        let mut calls = self.client();
        let upload = tokio::spawn(async move { calls.upload(from(client, part)).await });
        while !self.metrics.render().contains("direction=\"up\"} 100") {
            tokio::task::yield_now().await;
        }
        upload
    }

    pub(crate) async fn status(&self, client: u64, file: &[u8]) -> UploadStatusResponse {
        let header = self.header(file);
        let request = UploadStatusRequest { run_id: header.run_id, round: header.round, blake3: header.blake3 };
        self.client().upload_status(from(client, request)).await.expect("a status").into_inner()
    }

    /// The honest header of a file.
    pub(crate) fn header(&self, file: &[u8]) -> UploadHeader {
        let plan = files::plan(self.width);
        UploadHeader {
            run_id: 7,
            round: plan.round.0,
            spec: digest_bytes(plan.spec),
            base: digest_bytes(plan.base),
            size_bytes: file.len() as u64,
            blake3: digest_bytes(Digest::of(file)),
            examples: 20,
            steps: u64::from(STEPS),
            train_loss: Some(0.5),
        }
    }

    /// A session that has said Hello.
    pub(crate) async fn join(&self, client: u64) -> Result<Session, Status> {
        self.join_as(client, hello()).await
    }

    pub(crate) async fn join_as(&self, client: u64, hello: Hello) -> Result<Session, Status> {
        let (up, receiver) = mpsc::channel(8);
        up.send(ClientMessage { kind: Some(client_message::Kind::Hello(hello)) }).await.expect("room for one");
        let down = self.client().participate(from(client, ReceiverStream::new(receiver))).await?.into_inner();
        Ok(Session { up, down })
    }
}

pub(crate) struct Session {
    pub(crate) up: mpsc::Sender<ClientMessage>,
    pub(crate) down: Streaming<ServerMessage>,
}

impl Session {
    /// The next message; the status that ends the stream is an error.
    pub(crate) async fn next(&mut self) -> Result<server_message::Kind, Status> {
        let message = self.down.message().await?;
        Ok(message.expect("the stream ends with a status").kind.expect("a kind"))
    }

    pub(crate) async fn say(&self, kind: client_message::Kind) {
        self.up.send(ClientMessage { kind: Some(kind) }).await.expect("the session lives");
    }
}

pub(crate) fn hello() -> Hello {
    let (protocol_version, software_version) = (PROTOCOL_VERSION, "test".to_owned());
    Hello { protocol_version, software_version, base_model: digest_bytes(files::base_model()), examples: 20 }
}

/// A request of a client.
pub(crate) fn from<T>(client: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("fedlora-client-id", client.into());
    request
}

/// A header and chunks as messages.
pub(crate) fn messages(header: UploadHeader, chunks: Vec<Chunk>) -> Vec<UploadMessage> {
    let kinds = std::iter::once(Kind::Header(header)).chain(chunks.into_iter().map(Kind::Chunk));
    kinds.map(|kind| UploadMessage { kind: Some(kind) }).collect()
}

/// A file from an offset on, in chunks of `size`.
pub(crate) fn chunks(file: &[u8], offset: usize, size: usize) -> Vec<Chunk> {
    let places = (offset..file.len()).step_by(size);
    places.map(|place| chunk(place as u64, &file[place..file.len().min(place + size)])).collect()
}

/// One honest chunk.
pub(crate) fn chunk(offset: u64, data: &[u8]) -> Chunk {
    Chunk { offset, crc32c: crc32c::crc32c(data), data: data.to_vec().into() }
}

/// Code and reason of a status.
pub(crate) fn told(status: &Status) -> (Code, String) {
    let reason = status.metadata().get("fedlora-reason").map(|reason| reason.to_str().expect("text").to_owned());
    (status.code(), reason.unwrap_or_default())
}

/// Messages, and then a stream that stays open without a word.
pub(crate) fn then_silent<T: Send + 'static>(messages: Vec<T>) -> impl Stream<Item = T> + Send + 'static {
    tokio_stream::iter(messages).chain(tokio_stream::pending())
}

/// A channel whose connections are pipes to whoever takes them.
fn channel(connections: mpsc::Sender<io::Result<tokio::io::DuplexStream>>) -> Channel {
    let connect = move |_| {
        let connections = connections.clone();
        async move {
            let (client, server) = duplex(1 << 16);
            connections.send(Ok(server)).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(TokioIo::new(client))
        }
    };
    Endpoint::from_static("http://in.process").connect_with_connector_lazy(tower::service_fn(connect))
}

/// The client with this number.
pub(crate) fn id(client: u64) -> ClientId {
    ClientId(client)
}
