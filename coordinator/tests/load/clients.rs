//! Light clients: a TLS connection each, a session on it, and uploads.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use fedlora_proto::{
    PROTOCOL_VERSION, digest_bytes,
    federation::{
        ClientMessage, Hello, Receipt, ServerMessage, UploadMessage, client_message,
        federation_client::FederationClient, server_message,
    },
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    update::Updates,
    world::{HOST, base_model},
};

/// Waits of a client whose connection failed grow from this limit to the other one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A client with an open session.
pub(crate) struct Client {
    pub(crate) calls: FederationClient<Channel>,
    pub(crate) up: mpsc::Sender<ClientMessage>,
    pub(crate) down: Streaming<ServerMessage>,
}

impl Client {
    /// Connects and says Hello; returns when it is welcome.
    pub(crate) async fn join(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Self, Status> {
        let mut calls = FederationClient::new(dial(address, config).await?);
        let (up, receiver) = mpsc::channel(2);
        let software_version = "load".to_owned();
        let base_model = digest_bytes(base_model());
        let hello = Hello { protocol_version: PROTOCOL_VERSION, software_version, base_model, examples: 20 };
        let hello = ClientMessage { kind: Some(client_message::Kind::Hello(hello)) };
        up.try_send(hello).expect("room for two");
        let down = calls.participate(ReceiverStream::new(receiver)).await?.into_inner();
        let mut client = Self { calls, up, down };
        match client.hear().await? {
            server_message::Kind::Welcome(_) => Ok(client),
            other => Err(Status::internal(format!("{other:?} instead of a welcome"))),
        }
    }

    /// The next message of the session.
    pub(crate) async fn hear(&mut self) -> Result<server_message::Kind, Status> {
        let message = self.down.message().await?;
        message.and_then(|message| message.kind).ok_or_else(|| Status::internal("a stream that ends without a word"))
    }

    /// Waits for the task of the round.
    pub(crate) async fn task(&mut self) {
        while !matches!(self.hear().await.expect("a session"), server_message::Kind::Task(_)) {}
    }

    /// Uploads an update, again where the coordinator has no room or this machine was too slow; the receipt, and how
    /// often that was.
    pub(crate) async fn upload(&mut self, updates: &Updates, id: u64) -> (Receipt, u32) {
        let mut again = 0;
        loop {
            match self.calls.upload(feed(updates.of(id).messages())).await {
                Ok(receipt) => return (receipt.into_inner(), again),
                Err(status) if matches!(status.code(), Code::ResourceExhausted | Code::DeadlineExceeded) => again += 1,
                Err(status) => panic!("client {id}: {status}"),
            }
            back_off(id, again).await;
        }
    }
}

/// A stream that is fed as it is read: the header is on its way before there is a chunk, as with the real client.
pub(crate) fn feed(messages: impl Iterator<Item = UploadMessage> + Send + 'static) -> ReceiverStream<UploadMessage> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        for message in messages {
            // A call that has ended says why to whoever made it.
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn dial(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Channel, Status> {
    let connector = TlsConnector::from(Arc::clone(config));
    let connect = move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(ServerName::try_from(HOST).expect("a host"), stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    };
    // As the real client does.
    let endpoint = Endpoint::from_static("http://coordinator.test")
        .buffer_size(4)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(96 << 10);
    let connected = endpoint.connect_with_connector(tower::service_fn(connect)).await;
    connected.map_err(|error| Status::unavailable(error.to_string()))
}

/// What a client does after its failure number `failures`: exponential back-off with full jitter, as the real client's. It is
/// a part of the load, and nothing is waited for by it.
pub(crate) async fn back_off(id: u64, failures: u32) {
    let limit = FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT);
    let draw = blake3::hash(&[id.to_le_bytes(), u64::from(failures).to_le_bytes()].concat());
    tokio::time::sleep(limit.mul_f64(f64::from(draw.as_bytes()[0]) / 256.0)).await;
}
