//! The way to a coordinator over TLS: what is accepted, and what is said about everything else.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use fedlora_proto::operator::operator_server::OperatorServer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Server, server::Connected};

use crate::{
    program::{Outcome, Place, program},
    samples::busy,
};

/// An authority that signs what a test wants.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.self_signed(&key).expect("it can be signed");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn sign(&self, host: &str, years: [i32; 2]) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a host name");
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().expect("randomness");
        (params.signed_by(&key, &self.issuer).expect("it can be signed"), key)
    }

    /// An identity's folder.
    fn identity(&self, place: &Place, folder: &str, years: [i32; 2]) {
        let (certificate, key) = self.sign("somebody", years);
        place.write(&format!("{folder}/ca.pem"), &self.certificate.pem());
        place.write(&format!("{folder}/certificate.pem"), &certificate.pem());
        place.write(&format!("{folder}/key.pem"), &key.serialize_pem());
        place.write(&format!("{folder}/access-token"), "operator");
    }

    /// What a server with such a certificate offers; with `asks` it wants one of the same authority from clients.
    fn server(&self, host: &str, years: [i32; 2], asks: bool) -> ServerConfig {
        let (certificate, key) = self.sign(host, years);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("usual versions");
        let builder = if asks {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("it has roots"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).expect("they belong together");
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// Years in which every certificate here is valid.
const VALID: [i32; 2] = [2020, 2100];
const OVER: [i32; 2] = [2020, 2021];
const TO_COME: [i32; 2] = [2099, 2100];

/// A TLS stream as tonic takes it.
struct Secured(TlsStream<TcpStream>);

impl Connected for Secured {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Serves the place's service over TLS too; the port.
fn serve(place: &Place, config: ServerConfig) -> u16 {
    let listener = place.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (sender, receiver) = mpsc::channel::<io::Result<Secured>>(4);
    place.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                sender.send(Ok(Secured(stream))).await.expect("the server takes it");
            }
        }
    });
    let service = OperatorServer::new(place.fake.service(place.path("state")));
    place.spawn(Server::builder().add_service(service).serve_with_incoming(ReceiverStream::new(receiver)));
    port
}

fn status(place: &Place, identity: &Path, server: &str) -> Outcome {
    let mut command = program("status");
    command.current_dir(place.path("")).args(["--server", server, "--identity"]).arg(identity);
    Outcome::of(&command.output().expect("the program can be started"))
}

fn ask(place: &Place, port: u16) -> Outcome {
    status(place, Path::new("me"), &format!("https://localhost:{port}"))
}

#[test]
fn a_certificate_of_the_same_authority_opens_the_door() {
    let (place, authority) = (Place::new(busy()), Authority::new());
    authority.identity(&place, "me", VALID);
    let port = serve(&place, authority.server("localhost", VALID, true));
    assert!(ask(&place, port).says().starts_with("coordinator  version"));
}

#[test]
fn a_token_stands_in_for_a_certificate() {
    let (place, authority) = (Place::new(busy()), Authority::new());
    place.write("me/ca.pem", &authority.certificate.pem());
    place.write("me/access-token", "operator\n");
    let port = serve(&place, authority.server("localhost", VALID, false));
    assert!(ask(&place, port).says().starts_with("coordinator  version"));
    std::fs::remove_file(place.path("me/access-token")).expect("it is there");
    ask(&place, port).fails(5, &["me/certificate.pem does not exist"]);
}

#[test]
fn a_coordinator_of_another_authority_is_not_trusted() {
    let (place, authority) = (Place::new(busy()), Authority::new());
    Authority::new().identity(&place, "me", VALID);
    let port = serve(&place, authority.server("localhost", VALID, true));
    ask(&place, port).fails(6, &["was not issued by me/ca.pem", "right coordinator?"]);
}

#[test]
fn a_coordinator_of_another_name_is_not_trusted() {
    let (place, authority) = (Place::new(busy()), Authority::new());
    authority.identity(&place, "me", VALID);
    let port = serve(&place, authority.server("coordinator.example.org", VALID, true));
    ask(&place, port).fails(6, &["not for this host name", "coordinator.example.org", "pki init --host"]);
}

#[test]
fn a_coordinator_whose_certificate_is_over_or_to_come_is_not_trusted() {
    let (place, authority) = (Place::new(busy()), Authority::new());
    authority.identity(&place, "me", VALID);
    let port = serve(&place, authority.server("localhost", OVER, true));
    ask(&place, port).fails(6, &["the coordinator's certificate has expired", "clock"]);
    let port = serve(&place, authority.server("localhost", TO_COME, true));
    ask(&place, port).fails(6, &["the coordinator's certificate is not valid yet", "clock"]);
}

#[test]
fn ones_own_certificate_is_looked_at_first() {
    let (place, authority) = (Place::new(busy()), Authority::new());
    let port = serve(&place, authority.server("localhost", VALID, true));
    authority.identity(&place, "me", OVER);
    ask(&place, port).fails(6, &["me/certificate.pem expired at 2021-01-01 00:00:00 UTC", "enrol again"]);
    authority.identity(&place, "me", TO_COME);
    ask(&place, port).fails(6, &["me/certificate.pem is not valid before 2099-01-01 00:00:00 UTC", "clock"]);
}

#[test]
fn a_certificate_that_the_coordinator_did_not_issue_is_named() {
    let (place, authority) = (Place::new(busy()), Authority::new());
    Authority::new().identity(&place, "me", VALID);
    place.write("me/ca.pem", &authority.certificate.pem());
    let port = serve(&place, authority.server("localhost", VALID, true));
    let outcome = ask(&place, port);
    assert_eq!(outcome.code, Some(6), "{outcome:?}");
    assert!(outcome.stderr.contains("certificate.pem"), "{outcome:?}");
}

#[test]
fn tls_to_a_clear_port_and_clear_text_to_a_tls_port_are_told_apart() {
    let (place, authority) = (Place::new(busy()), Authority::new());
    authority.identity(&place, "me", VALID);
    let clear = place.address().replace("http://127.0.0.1", "https://localhost");
    status(&place, Path::new("me"), &clear).fails(6, &["not TLS", "--insecure"]);
    let port = serve(&place, authority.server("localhost", VALID, true));
    let mut command = program("status --insecure --server");
    let outcome = Outcome::of(&command.arg(format!("http://localhost:{port}")).output().expect("it can be started"));
    outcome.fails(6, &["https://"]);
}
