//! From a listening socket to connections that are ready for HTTP/2.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::LazyConfigAcceptor;
use tokio_stream::{Stream, wrappers::ReceiverStream};

use super::{
    ServerCertificate, TlsConnection, TlsSettings,
    explain::explain,
    handshakes::{Cut, Handshakes, Turn},
    settings::Protection,
};
use crate::identity::Now;

/// Connections that wait for the server to take them.
const READY: usize = 64;

/// Connections that may be shaking hands or waiting for it, for each one that may shake hands: those that wait cost a
/// descriptor and next to no memory.
const LINE: usize = 16;

/// How many times as long as a handshake may take a connection may wait for its turn. After a restart thousands come at
/// one moment, and one that is sent away has to come again, with all that it costs both ends.
const PATIENCE: u32 = 3;

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
    let line = Arc::new(Line::new(&settings));
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
                    Protection::Tls { .. } if tasks.len() >= settings.max_handshakes.saturating_mul(LINE) => {
                        tracing::debug!(%address, "too-many-wait-for-a-handshake");
                    }
                    Protection::Tls { config, certificate } => {
                        let acceptor = Acceptor {
                            tls: Arc::clone(config),
                            certificate: Arc::clone(certificate),
                            now: Arc::clone(&settings.now),
                            limit: settings.handshake_timeout,
                        };
                        let number = line.lock().arrive();
                        tasks.spawn(acceptor.hand_over(Arc::clone(&line), ready.clone(), number, stream, address));
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
    tls: Arc<ServerConfig>,
    certificate: Arc<ServerCertificate>,
    now: Now,
    limit: Duration,
}

impl Acceptor {
    async fn hand_over(self, line: Arc<Line>, ready: Ready, number: u64, stream: TcpStream, address: SocketAddr) {
        // A hello is on its way for as long as the network takes. With a place before it is there, a connection would be the
        // silent one that is cut off for the next: of thousands that come at one moment, most of them.
        let is_silent = timeout(line.grace.min(self.limit), stream.readable()).await.is_err();
        let patience = self.limit.saturating_mul(PATIENCE);
        let place = timeout(patience, line.place(number, address.ip(), is_silent)).await;
        let Ok(Some(mut place)) = place else {
            tracing::debug!(%address, "no-turn-for-a-handshake");
            return;
        };
        // Boxed: those that wait for a place have no need of what a handshake needs.
        let handshake = Box::pin(self.shake_hands(&line, number, stream, address));
        let done = tokio::select! {
            done = timeout(self.limit, handshake) => done,
            _ = &mut place.cut => return,
        };
        drop(place);
        match done {
            // A server that is gone takes no connections.
            Ok(Some(connection)) => drop(ready.send(Ok(connection)).await),
            Ok(None) => {}
            Err(_) => tracing::debug!(%address, "handshake-too-slow"),
        }
    }

    async fn shake_hands(
        &self,
        line: &Line,
        number: u64,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<TlsConnection> {
        renew_if_due(&self.certificate, &self.now).await;
        let done = match LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await {
            Ok(hello) => {
                line.lock().spoke(number, Instant::now());
                hello.into_stream(Arc::clone(&self.tls)).await
            }
            Err(error) => Err(error),
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

/// Where connections wait for a place.
struct Line {
    handshakes: Mutex<Handshakes>,
    freed: Notify,
    grace: Duration,
}

impl Line {
    fn new(settings: &TlsSettings) -> Self {
        let (most, grace) = (settings.max_handshakes, settings.handshake_grace);
        let handshakes = Handshakes::new(most, settings.max_handshakes_per_address, grace);
        Self { handshakes: Mutex::new(handshakes), freed: Notify::new(), grace }
    }

    /// Waits for a place: until one is free, or the oldest one has had its time. `None` for one that is pushed out itself.
    async fn place(self: &Arc<Self>, number: u64, address: IpAddr, is_silent: bool) -> Option<Place> {
        loop {
            let turn = self.lock().begin(number, address, is_silent, Instant::now());
            match turn {
                Turn::Begins(cut) => return Some(Place { line: Arc::clone(self), number, cut }),
                Turn::PushedOut => return None,
                Turn::Waits => {}
            }
            // A place that is of no use to whoever hears of it is found by others when they look again.
            let _ = timeout(self.grace, self.freed.notified()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Handshakes> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees a handshake's place, however the handshake ends.
struct Place {
    line: Arc<Line>,
    number: u64,
    cut: Cut,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.lock().end(self.number);
        self.line.freed.notify_one();
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
