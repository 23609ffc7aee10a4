//! A coordinator's front door on a port of its own, and clients of it.

use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fedlora_adapter::ClientId;
use fedlora_coordinator::{
    Authenticator, IdentityLimits, IdentityService, Now, Peer, Registry, Role, Timestamp, TlsSettings,
    identity::pki::{PkiPaths, init_pki},
    tls_incoming, until_revoked,
};
use fedlora_proto::{
    federation::{
        Chunk, ClientMessage, DownloadRequest, EnrolResponse, Receipt, ServerMessage, UploadMessage,
        UploadStatusRequest, UploadStatusResponse, Welcome,
        federation_client::FederationClient,
        federation_server::{Federation, FederationServer},
        identity_client::IdentityClient,
        server_message,
    },
    operator::CreateTokenRequest,
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    time_provider::TimeProvider,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);
pub(crate) const HOUR: u64 = 3_600_000;

/// Longer than anything here takes, even on a machine that is busy with other things.
const LONG: Duration = Duration::from_mins(1);

/// How the front door is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Mutual,
    OneWay,
    ClearText,
}

/// A coordinator that knows identities and nothing else. It ends with the test's runtime.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) address: SocketAddr,
    pub(crate) state: TempDir,
    clock: Arc<AtomicU64>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Door::Mutual, |_| {}, 10_000).await
    }

    pub(crate) async fn start_with(door: Door, adjust: impl FnOnce(&mut TlsSettings), calls_per_minute: u32) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(AtomicU64::new(START.0));
        let paths = init_pki(&state.path().join("pki"), &["coordinator.test".into()], START).expect("an authority");
        let registry = Registry::open(state.path()).expect("a register");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let now = now(&clock);
        let mut settings = settings(door, &paths, address, &now);
        adjust(&mut settings);
        let authenticator = match door {
            Door::Mutual => Authenticator::Certificates(registry.clone()),
            Door::OneWay | Door::ClearText => Authenticator::Bearer(registry.clone()),
        };
        let per_minute = NonZeroU32::new(calls_per_minute).expect("at least one");
        let limits = IdentityLimits { enrolments_per_minute: per_minute, renewals_per_minute: per_minute };
        let identity = IdentityService::new(registry.clone(), authenticator.clone(), limits, Arc::clone(&now));
        let behind = Behind { authenticator, registry: registry.clone(), now };
        let server = Server::builder().add_service(identity.into_server()).add_service(FederationServer::new(behind));
        let incoming = tls_incoming(listener, settings).await;
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { registry, address, state, clock }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn paths(&self) -> PkiPaths {
        PkiPaths::of_state(self.state.path())
    }

    /// A token for a role.
    pub(crate) fn token(&self, name: &str, role: Role) -> String {
        let request = CreateTokenRequest {
            name: name.into(),
            role: role.as_str().into(),
            ttl_ms: HOUR,
            ..CreateTokenRequest::default()
        };
        self.registry.create_token(request, self.now()).expect("a token").1
    }

    /// Somebody enrolled without the network.
    pub(crate) fn enrolled(&self, name: &str, role: Role) -> Identity {
        let request = KeyRequest::new();
        let issued = self.registry.enrol(&self.token(name, role), &request.csr, self.now()).expect("enrolled");
        Identity::new(request, issued)
    }

    /// A connection with an identity or without one.
    pub(crate) async fn connect(&self, identity: Option<&Identity>) -> Result<Channel, tonic::transport::Error> {
        self.connect_as("coordinator.test", &self.paths(), identity).await
    }

    /// A connection that expects `host` and trusts the authority of `trusted`.
    pub(crate) async fn connect_as(
        &self,
        host: &'static str,
        trusted: &PkiPaths,
        identity: Option<&Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        let config = client_config(&self.clock, trusted, identity);
        let (address, connector) = (self.address, TlsConnector::from(Arc::new(config)));
        let connect = move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let stream = connector.connect(ServerName::try_from(host).expect("a host"), stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        };
        within(
            LONG,
            Endpoint::from_static("http://coordinator.test").connect_with_connector(tower::service_fn(connect)),
        )
        .await
    }

    /// A connection in clear text.
    pub(crate) async fn connect_clear(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        within(LONG, endpoint.connect()).await.expect("connected")
    }
}

fn now(clock: &Arc<AtomicU64>) -> Now {
    let clock = Arc::clone(clock);
    Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)))
}

fn settings(door: Door, paths: &PkiPaths, address: SocketAddr, now: &Now) -> TlsSettings {
    let settings = match door {
        Door::Mutual => TlsSettings::mutual(paths, Arc::clone(now)),
        Door::OneWay => TlsSettings::one_way(paths, Arc::clone(now)),
        Door::ClearText => TlsSettings::clear_text(address, Arc::clone(now)),
    };
    settings.expect("settings")
}

/// A key that stays with its site, and the request for a certificate of it.
pub(crate) struct KeyRequest {
    key: KeyPair,
    pub(crate) csr: String,
}

impl KeyRequest {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let csr = CertificateParams::default().serialize_request(&key).expect("a request").pem().expect("PEM");
        Self { key, csr }
    }
}

/// What enrolling leaves at a site.
pub(crate) struct Identity {
    pub(crate) issued: EnrolResponse,
    key: KeyPair,
}

impl Identity {
    pub(crate) fn new(request: KeyRequest, issued: EnrolResponse) -> Self {
        Self { issued, key: request.key }
    }

    pub(crate) fn client(&self) -> ClientId {
        ClientId(self.issued.client_id)
    }
}

fn client_config(clock: &Arc<AtomicU64>, trusted: &PkiPaths, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&trusted.ca).expect("PEM")).expect("an authority");
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock(Arc::clone(clock))));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certificate = CertificateDer::from_pem_slice(identity.issued.certificate_pem.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::Pkcs8(identity.key.serialize_der().into());
            builder.with_client_auth_cert(vec![certificate], key).expect("a certificate and its key")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

struct Clock(Arc<AtomicU64>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.load(Ordering::SeqCst))))
    }
}

/// A service that needs the role of a client: one call that answers with the caller's number, and one that stays open.
struct Behind {
    authenticator: Authenticator,
    registry: Registry,
    now: Now,
}

impl Behind {
    fn caller<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let peer = self.authenticator.authenticate(request, (self.now)())?;
        peer.require(Role::Client)?;
        Ok(peer)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Federation for Behind {
    type ParticipateStream = Answers<ServerMessage>;
    type DownloadStream = Answers<Chunk>;

    async fn participate(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::ParticipateStream>, Status> {
        let client = self.caller(&request)?.client;
        let welcome = Welcome { client_id: client.0, ..Welcome::default() };
        let welcome = ServerMessage { kind: Some(server_message::Kind::Welcome(welcome)) };
        let answers = tokio_stream::once(Ok(welcome)).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(until_revoked(answers, &self.registry, client))))
    }

    async fn download(&self, _: Request<DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn upload(&self, _: Request<Streaming<UploadMessage>>) -> Result<Response<Receipt>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn upload_status(
        &self,
        request: Request<UploadStatusRequest>,
    ) -> Result<Response<UploadStatusResponse>, Status> {
        let committed_bytes = self.caller(&request)?.client.0;
        Ok(Response::new(UploadStatusResponse { committed_bytes, receipt: None }))
    }
}

/// Asks the service who it thinks is calling.
pub(crate) async fn who_am_i(channel: &Channel) -> Result<ClientId, Status> {
    ask(channel, None).await
}

/// The same with an `authorization` header.
pub(crate) async fn ask(channel: &Channel, authorization: Option<&str>) -> Result<ClientId, Status> {
    let mut request = Request::new(UploadStatusRequest::default());
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().expect("a value"));
    }
    let mut client = FederationClient::new(channel.clone());
    let answer = within(LONG, client.upload_status(request)).await?;
    Ok(ClientId(answer.into_inner().committed_bytes))
}

/// Opens the long call and waits for its first message.
pub(crate) async fn participate(channel: &Channel) -> Result<Streaming<ServerMessage>, Status> {
    let mut client = FederationClient::new(channel.clone());
    let mut answers = within(LONG, client.participate(tokio_stream::pending())).await?.into_inner();
    within(LONG, answers.message()).await?.expect("a welcome");
    Ok(answers)
}

pub(crate) fn identity_client(channel: &Channel) -> IdentityClient<Channel> {
    IdentityClient::new(channel.clone())
}

/// Code and reason of a refusal.
pub(crate) fn refusal<T: fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("refused");
    let reason = status.metadata().get("fedlora-reason").and_then(|reason| reason.to_str().ok());
    (status.code(), reason.unwrap_or("none").to_owned())
}

/// Fails a test that waits in vain.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> F::Output {
    tokio::time::timeout(limit, future).await.expect("it happens in time")
}
