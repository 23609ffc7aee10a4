//! From a listening socket to connections that are ready for HTTP/2.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, wrappers::ReceiverStream};

use super::{
    ServerCertificate, TlsConnection, TlsSettings, explain::explain, handshakes::Handshakes, settings::Protection,
};
use crate::identity::Now;

/// Connections that wait for the server to take them.
const READY: usize = 64;

/// How long to wait after the system could not give a connection: it is out of descriptors, and asking again at once
/// would only keep it busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections, for tonic's `serve_with_incoming`.
///
/// Handshakes run side by side and never hold up the next connection. One that fails is logged in plain words and is
/// nobody else's concern: the stream yields no errors, and ends only when it is dropped, which also closes the listener.
/// The coordinator's certificate is replaced when a connection finds it near its end, and before the first one.
pub async fn tls_incoming(
    listener: TcpListener,
    settings: TlsSettings,
) -> impl Stream<Item = io::Result<TlsConnection>> + Send + 'static {
    if let Protection::Tls { certificate, .. } = &settings.protection {
        renew_if_due(certificate, &settings.now).await;
    }
    let (ready, connections) = mpsc::channel(READY);
    tokio::spawn(accept_all(listener, settings, ready));
    ReceiverStream::new(connections)
}

type Ready = mpsc::Sender<io::Result<TlsConnection>>;

async fn accept_all(listener: TcpListener, settings: TlsSettings, ready: Ready) {
    let limits = Handshakes::new(settings.max_handshakes, settings.max_handshakes_per_address);
    let handshakes = Arc::new(Mutex::new(limits));
    // Dropped with this function: what is under way then ends too.
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        while tasks.try_join_next().is_some() {}
        match accepted {
            Ok((stream, address)) => {
                // Small messages, heartbeats above all, must not wait for company. Without it they only come later.
                let _ = stream.set_nodelay(true);
                match &settings.protection {
                    Protection::ClearText => hand_over_clear(&ready, stream, address).await,
                    Protection::Tls { config, certificate } => {
                        let acceptor = Acceptor {
                            tls: Arc::clone(config).into(),
                            certificate: Arc::clone(certificate),
                            now: Arc::clone(&settings.now),
                            limit: settings.handshake_timeout,
                        };
                        start(&mut tasks, &handshakes, acceptor, ready.clone(), stream, address);
                    }
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// A connection that broke before it was taken says nothing about the next one.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "accept-failed");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn hand_over_clear(ready: &Ready, stream: TcpStream, address: SocketAddr) {
    if address.ip().to_canonical().is_loopback() {
        // A server that is gone takes no connections.
        let _ = ready.send(Ok(TlsConnection::clear(stream, address))).await;
    } else {
        tracing::warn!(%address, "clear-text-from-another-machine-refused");
    }
}

/// What a handshake needs.
struct Acceptor {
    tls: TlsAcceptor,
    certificate: Arc<ServerCertificate>,
    now: Now,
    limit: Duration,
}

fn start(
    tasks: &mut JoinSet<()>,
    handshakes: &Arc<Mutex<Handshakes>>,
    acceptor: Acceptor,
    ready: Ready,
    stream: TcpStream,
    address: SocketAddr,
) {
    let number = lock(handshakes).begin(address.ip());
    let place = Place { handshakes: Arc::clone(handshakes), number };
    let handle = tasks.spawn(async move {
        if let Some(connection) = acceptor.shake_hands(stream, address).await {
            drop(place);
            let _ = ready.send(Ok(connection)).await;
        }
    });
    lock(handshakes).attach(number, handle);
}

impl Acceptor {
    async fn shake_hands(&self, stream: TcpStream, address: SocketAddr) -> Option<TlsConnection> {
        renew_if_due(&self.certificate, &self.now).await;
        let done = tokio::time::timeout(self.limit, self.tls.accept(stream)).await;
        let Ok(done) = done else {
            tracing::debug!(%address, "handshake-too-slow");
            return None;
        };
        match done.and_then(|stream| TlsConnection::encrypted(stream, address)) {
            Ok(connection) => Some(connection),
            // Whoever only looks whether the port is open.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::debug!(%address, why = explain(&error), "handshake-failed");
                None
            }
            Err(error) => {
                tracing::warn!(%address, why = explain(&error), %error, "handshake-failed");
                None
            }
        }
    }
}

/// Frees a handshake's place, however the handshake ends.
struct Place {
    handshakes: Arc<Mutex<Handshakes>>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.handshakes).end(self.number);
    }
}

/// Replaces the coordinator's certificate on a thread that may wait for the disk, if it is time to.
async fn renew_if_due(certificate: &Arc<ServerCertificate>, now: &Now) {
    let now = now();
    if certificate.is_due(now) {
        let certificate = Arc::clone(certificate);
        let renewed = tokio::task::spawn_blocking(move || certificate.renew_if_due(now)).await;
        if let Ok(Err(error)) = renewed {
            tracing::error!(%error, "server-certificate-not-renewed");
        }
    }
}

fn lock(handshakes: &Mutex<Handshakes>) -> MutexGuard<'_, Handshakes> {
    handshakes.lock().unwrap_or_else(PoisonError::into_inner)
}
