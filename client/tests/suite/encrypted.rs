//! A door with TLS before a coordinator that speaks clear text, and the authority that vouches for it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};
use tokio_rustls::TlsAcceptor;

use crate::coordinator::Coordinator;

/// A certificate authority of a test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    /// A client's certificate and key in PEM.
    pub(crate) fn client(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }

    fn server(&self, names: &[&str], (from, to): (i32, i32)) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// A door that lives as long as the value.
pub(crate) struct Encrypted {
    address: SocketAddr,
    shown: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Encrypted {
    /// A door whose certificate is valid now.
    pub(crate) fn before(coordinator: &Coordinator, authority: &Authority, names: &[&str]) -> Self {
        Self::valid(coordinator, authority, names, (2000, 3000))
    }

    /// A door whose certificate is valid between the beginnings of two years.
    pub(crate) fn valid(coordinator: &Coordinator, authority: &Authority, names: &[&str], years: (i32, i32)) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        // Both families, since `localhost` may be either.
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let acceptor = TlsAcceptor::from(Arc::new(server_config(authority, names, years)));
        runtime.spawn(serve(listener, acceptor, coordinator.address(), Arc::clone(&shown)));
        Self { address, shown, _runtime: runtime }
    }

    pub(crate) fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.address.port())
    }

    /// Names in the certificates that clients showed, without repetition.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut names = self.shown.lock().expect("no panic").clone();
        names.dedup();
        names
    }
}

fn server_config(authority: &Authority, names: &[&str], years: (i32, i32)) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("a certificate")).expect("an authority");
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build().expect("a verifier");
    let (certificate, key) = authority.server(names, years);
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, inside: SocketAddr, shown: Arc<Mutex<Vec<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shown) = (acceptor.clone(), Arc::clone(&shown));
        tokio::spawn(async move {
            let Ok(mut outer) = acceptor.accept(stream).await else { return };
            if let Some([certificate, ..]) = outer.get_ref().1.peer_certificates() {
                let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
                let name = parsed.subject().iter_common_name().last().and_then(|name| name.as_str().ok());
                shown.lock().expect("no panic").push(name.unwrap_or_default().to_owned());
            }
            let Ok(mut inner) = TcpStream::connect(inside).await else { return };
            // Either side may hang up at any time.
            let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
        });
    }
}
