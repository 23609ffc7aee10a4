//! The way to a coordinator: TLS by rustls with the identity's certificate authority, or clear text on this machine.
//!
//! The connection is made before the first call, so that what is wrong with it can be said in plain words; a command
//! lives as long as its one connection.

mod once;

use std::{io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use fedlora_proto::operator::operator_client::OperatorClient;
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};

use super::{Failure, clock, identity, identity::Identity};
use once::{Once, Reason};

/// How long the network and the handshake may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The operator's service as a client sees it.
pub(super) type Operator = OperatorClient<InterceptedService<Channel, Bearer>>;

/// Whom to ask, and as whom.
#[derive(Debug)]
pub(super) struct Target {
    /// Address as given.
    pub(super) server: Option<String>,
    /// Folder of the identity.
    pub(super) identity: Option<PathBuf>,
    /// Clear text.
    pub(super) insecure: bool,
}

/// Adds the access token to every call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Bearer {
    fn new(token: Option<String>) -> Result<Self, Failure> {
        let header = |token: String| {
            let value = MetadataValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| Failure::files(format!("{} holds no token", identity::ACCESS_TOKEN)))?;
            value.set_sensitive(true);
            Ok(value)
        };
        token.map(header).transpose().map(Self)
    }
}

/// Connects, or says what is in the way.
pub(super) async fn connect(target: &Target) -> Result<Operator, Failure> {
    let address = Address::new(target)?;
    let identity = target.identity.as_deref().map(Identity::open).transpose()?;
    let token = identity.as_ref().map(Identity::access_token).transpose()?.flatten();
    let bearer = Bearer::new(token)?;
    let channel = if target.insecure {
        channel(&address, address.dial().await?).await
    } else {
        let identity = identity.ok_or_else(no_identity)?;
        let tls = tls(&identity, bearer.0.is_some())?;
        let plain = address.dial().await?;
        channel(&address, address.handshake(tls, plain, &identity).await?).await
    }?;
    Ok(OperatorClient::with_interceptor(channel, bearer))
}

fn no_identity() -> Failure {
    Failure::configuration(
        "--identity (or FEDLORA_IDENTITY) is needed to show who is asking: `pki init --dir STATE` makes STATE/operator",
    )
}

/// A channel over one connection. It is not made a second time: what it says after a break is up to the command.
async fn channel<S>(address: &Address, stream: S) -> Result<Channel, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let reason = Reason::default();
    let mut stream = Some(TokioIo::new(Once { stream, reason: reason.clone() }));
    let connector = tower::service_fn(move |_: Uri| {
        let answer = stream.take().ok_or_else(|| reason.take());
        async move { answer }
    });
    let endpoint = Endpoint::from(address.uri.clone());
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map_err(|error| Failure::unreachable(format!("{}: no HTTP/2: {error}", address.uri)))
}

/// Where a coordinator listens.
#[derive(Debug)]
struct Address {
    uri: Uri,
    host: String,
    port: u16,
}

impl Address {
    fn new(target: &Target) -> Result<Self, Failure> {
        let usual = if target.insecure { "http://localhost:8443" } else { "https://localhost:8443" };
        let text = target.server.as_deref().unwrap_or(usual);
        let wrong = |why: &str| Failure::configuration(format!("--server {text}: {why}, for example {usual}"));
        let uri: Uri = text.parse().map_err(|_| wrong("expected an address"))?;
        match (uri.scheme_str(), target.insecure) {
            (Some("https"), false) | (Some("http"), true) => {}
            (Some("http"), false) => return Err(wrong("clear text needs --insecure; else use https")),
            (Some("https"), true) => return Err(wrong("--insecure means clear text: use http")),
            _ => return Err(wrong("expected https:// before the host")),
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(8443);
        if target.insecure && !is_loopback(&host) {
            return Err(wrong("--insecure is for this machine only (localhost); nobody else may read along"));
        }
        Ok(Self { uri, host, port })
    }

    /// A TCP connection.
    async fn dial(&self) -> Result<TcpStream, Failure> {
        let (host, port) = (&self.host, self.port);
        let failed = |why: String| Failure::unreachable(format!("cannot reach {host}:{port}: {why}"));
        let connected = timeout(CONNECT, TcpStream::connect((host.as_str(), port))).await;
        let stream = connected
            .map_err(|_| failed(format!("no answer within {} s; is a firewall in between?", CONNECT.as_secs())))?;
        let stream = stream.map_err(|error| failed(reason(&error)))?;
        // One small message after another: waiting to fill packets would only delay them.
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        Ok(stream)
    }

    /// TLS on it.
    async fn handshake(
        &self,
        config: ClientConfig,
        stream: TcpStream,
        identity: &Identity,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| Failure::configuration(format!("--server {}: {:?} is no host name", self.uri, self.host)))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let failed = |why: String| Failure::unreachable(format!("{}:{}: {why}", self.host, self.port));
        let stream = timeout(CONNECT, handshake).await.map_err(|_| {
            failed(format!("no TLS handshake within {} s; is it a coordinator that listens there?", CONNECT.as_secs()))
        })?;
        stream.map_err(|error| failed(untrusted(&error, identity)))
    }
}

/// Why no TCP connection came about, and what to look at.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused; is `fedlora-coordinator serve` running there, and is the port right?".to_owned()
        }
        _ => format!("{error}; is the host name right?"),
    }
}

/// Why TLS did not come about, and which file or machine to look at.
fn untrusted(error: &io::Error, identity: &Identity) -> String {
    let ca = identity.path(identity::CA);
    let ca = ca.display();
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => {
            "the answer is not TLS: is the coordinator running with --insecure, or is this its HTTP port?".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("the coordinator's certificate was not issued by {ca}: is it the right coordinator?")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the coordinator's certificate is not for this host name: use the name that was given to \
                 `pki init --host` ({why})"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the coordinator's certificate has expired, or a clock is wrong ({why})")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the coordinator's certificate is not valid yet: a clock is wrong ({why})")
            }
            _ => format!("the coordinator's certificate cannot be used: {why}"),
        },
        Some(rustls::Error::AlertReceived(alert)) => format!("the coordinator ended the handshake: {alert:?}"),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed during the TLS handshake: is it a coordinator that listens there?".to_owned()
        }
        _ => format!("TLS failed: {error}"),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// TLS as this identity; its certificate may only be missing where a token stands in for it.
fn tls(identity: &Identity, has_token: bool) -> Result<ClientConfig, Failure> {
    let unusable = |error: rustls::Error| {
        let path = identity.path(identity::CERTIFICATE);
        Failure::files(format!("{} and {} cannot be used: {error}", path.display(), identity::KEY))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(unusable)?.with_root_certificates(identity.roots()?);
    let mut config = match identity.certificate(clock::now())? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(unusable)?,
        None if has_token => builder.with_no_client_auth(),
        None => {
            let path = identity.path(identity::CERTIFICATE);
            return Err(Failure::files(format!("{} does not exist: is --identity the right folder?", path.display())));
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(server: Option<&str>, insecure: bool) -> Result<(String, u16), String> {
        let target = Target { server: server.map(str::to_owned), identity: None, insecure };
        let address = Address::new(&target).map_err(|failure| failure.to_string())?;
        Ok((address.host, address.port))
    }

    #[test]
    fn the_usual_address_is_this_machine() {
        assert_eq!(address(None, false), Ok(("localhost".to_owned(), 8443)));
        assert_eq!(address(None, true), Ok(("localhost".to_owned(), 8443)));
        assert_eq!(address(Some("https://[::1]:9"), false), Ok(("::1".to_owned(), 9)));
    }

    #[test]
    fn clear_text_needs_a_flag_and_stays_on_this_machine() {
        assert!(address(Some("http://localhost:1"), false).is_err_and(|words| words.contains("needs --insecure")));
        assert!(address(Some("https://localhost:1"), true).is_err_and(|words| words.contains("use http")));
        for elsewhere in ["http://example.org:1", "http://10.0.0.1:1", "http://localhost.example.org:1"] {
            assert!(address(Some(elsewhere), true).is_err_and(|words| words.contains("this machine only")));
        }
        assert_eq!(address(Some("http://127.0.0.1:1"), true), Ok(("127.0.0.1".to_owned(), 1)));
    }

    #[test]
    fn an_address_without_a_scheme_is_told_what_is_missing() {
        assert!(address(Some("localhost:8443"), false).is_err_and(|words| words.contains("https://")));
    }
}
