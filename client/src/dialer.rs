//! The connection to a coordinator: one HTTP/2 channel that connects when it is used and reconnects by itself.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fedlora_proto::{
    MAX_CHUNK_BYTES,
    federation::{federation_client::FederationClient, identity_client::IdentityClient},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    Identity, Server,
    tls::{self, Shown, TlsError},
};

/// Time to reach the other machine and to agree on TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// Ping an idle connection this often; routers forget connections that are silent for minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The connection is dead when a ping has no answer for this long.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);
/// Bytes that may be under way on one stream and on the connection: two chunks, and some of another call's.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of the largest frame that the coordinator may send: fewer, larger frames cost less.
const FRAME: u32 = 96 << 10;

/// Why no connection can be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No certificate authority to check the coordinator against.
    #[error("{server} uses TLS, but the identity has no ca.pem to check it against; enrol with --ca")]
    NoAuthority {
        /// The coordinator.
        server: Server,
    },
    /// An access token that cannot be sent.
    #[error("the access token holds characters that cannot be sent")]
    Token,
    /// An address that cannot be called.
    #[error("{server} cannot be called")]
    Address {
        /// The coordinator.
        server: Server,
    },
}

/// A call that failed, with what is known of the reason.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{words}")]
pub struct Unreachable {
    /// The status of the call.
    pub code: tonic::Code,
    words: String,
}

/// Calls one coordinator.
#[derive(Debug)]
pub struct Dialer {
    server: Server,
    token: Option<MetadataValue<Ascii>>,
    connector: Connector,
    // Made when it is first used, because a channel needs the runtime that it lives in.
    channel: Mutex<Option<Channel>>,
    endpoint: Endpoint,
}

/// How a connection comes about.
#[derive(Debug, Clone)]
struct Connector {
    server: Server,
    name: ServerName<'static>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// Why the last try failed: HTTP/2 above only says that it did.
    failure: Arc<Mutex<Option<String>>>,
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Dialer {
    /// Calls as an enrolled client; the certificate that it shows can be replaced through `shown`.
    ///
    /// # Errors
    /// Certificates that cannot be used; TLS without an authority.
    pub fn new(server: &Server, identity: &Identity, shown: &Arc<Shown>) -> Result<Self, DialError> {
        let token = identity.access_token.as_deref();
        if !server.tls() {
            return Self::assemble(server, None, token);
        }
        let ca_pem = identity.ca_pem.as_deref();
        let ca_pem = ca_pem.ok_or_else(|| DialError::NoAuthority { server: server.clone() })?;
        shown.replace(&identity.certificate_pem, &identity.key_pem)?;
        Self::assemble(server, Some(tls::client_config(ca_pem, Arc::clone(shown))?), token)
    }

    /// Calls as nobody: to enrol.
    ///
    /// # Errors
    /// As [`Dialer::new`].
    pub fn anonymous(server: &Server, ca_pem: Option<&str>) -> Result<Self, DialError> {
        let tls = match (server.tls(), ca_pem) {
            (false, _) => None,
            (true, Some(ca_pem)) => Some(tls::client_config(ca_pem, Arc::default())?),
            (true, None) => return Err(DialError::NoAuthority { server: server.clone() }),
        };
        Self::assemble(server, tls, None)
    }

    fn assemble(server: &Server, tls: Option<rustls::ClientConfig>, token: Option<&str>) -> Result<Self, DialError> {
        let address = || DialError::Address { server: server.clone() };
        let token = token.filter(|token| !token.is_empty()).map(|token| format!("Bearer {token}").parse()).transpose();
        let token = token.map_err(|_| DialError::Token)?.map(|mut token: MetadataValue<Ascii>| {
            token.set_sensitive(true);
            token
        });
        let endpoint = Endpoint::from_shared(server.to_string()).map_err(|_| address())?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME);
        let name = ServerName::try_from(server.host().to_owned()).map_err(|_| address())?;
        let connector = Connector { server: server.clone(), name, tls: tls.map(Arc::new), failure: Arc::default() };
        Ok(Self { server: server.clone(), token, connector, channel: Mutex::default(), endpoint })
    }

    /// The coordinator.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A message with what names this client where TLS does not.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    /// The client-facing service.
    #[must_use]
    pub fn federation(&self) -> FederationClient<Channel> {
        // A chunk, and the message around it.
        FederationClient::new(self.channel()).max_decoding_message_size(MAX_CHUNK_BYTES + (64 << 10))
    }

    /// The service of certificates.
    #[must_use]
    pub fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel())
    }

    /// Leaves the present connection to those who use it and makes new calls on a new one: with a new certificate.
    pub fn reconnect(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A failed call in plain words.
    #[must_use]
    pub fn unreachable(&self, status: &Status) -> Unreachable {
        let failure = self.connector.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let transport = status.code() == tonic::Code::Unavailable;
        let words = match failure.filter(|_| transport) {
            Some(failure) => format!("cannot connect to {}: {failure}", self.server),
            // A status that nobody sent has a source.
            None if !self.server.tls() && std::error::Error::source(status).is_some() => format!(
                "the connection to {} broke off; if the coordinator uses TLS on this port, write https:// in `server` and \
                 drop `insecure`",
                self.server
            ),
            None => format!("{}: {}", self.server, words(status)),
        };
        Unreachable { code: status.code(), words }
    }

    fn channel(&self) -> Channel {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.get_or_insert_with(|| self.connector.clone().channel(&self.endpoint)).clone()
    }
}

/// What a server said, or the name of the code where it said nothing.
fn words(status: &Status) -> String {
    if status.message().is_empty() { status.code().description().to_owned() } else { status.message().to_owned() }
}

impl Connector {
    fn channel(self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| self.clone().connect()))
    }

    async fn connect(self) -> io::Result<TokioIo<Box<dyn Connection>>> {
        let outcome = self.open().await;
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = outcome.as_ref().err().map(|error| tls::explain(error, self.server.host()));
        outcome
    }

    async fn open(&self) -> io::Result<TokioIo<Box<dyn Connection>>> {
        let stream = TcpStream::connect((self.server.host(), self.server.port())).await?;
        // Small messages must not wait for more to come.
        stream.set_nodelay(true)?;
        let connection: Box<dyn Connection> = match &self.tls {
            Some(config) => Box::new(TlsConnector::from(Arc::clone(config)).connect(self.name.clone(), stream).await?),
            None => Box::new(stream),
        };
        Ok(TokioIo::new(connection))
    }
}
