//! A whole coordinator: engine, identities and services on two listeners, from the first connection to the last commit.

mod bridge;
mod watch;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use fedlora_privacy::Origin;
use fedlora_proto::{
    federation::{federation_server::FederationServer, identity_server::IdentityServer},
    operator::operator_server::OperatorServer,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::spawn_blocking,
    time::timeout,
};
use tonic_health::server::HealthReporter;

use crate::{
    Authenticator, Clock, Engine, EngineError, EngineSettings, EngineThread, Handle, IdentityError, IdentityLimits,
    IdentityService, OperatorService, Registry, SystemClock, TlsError, TlsSettings,
    config::{ClientAuth, ConfigError, ServeConfig},
    grpc::{FederationService, Gate, patient, reflection, server},
    http::{Readiness, router},
    identity::pki::PkiPaths,
    metrics::Metrics,
    tls_incoming,
};
use bridge::ByRegistry;

/// Why a coordinator does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration makes no sense.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The state cannot be opened.
    #[error("state")]
    Engine(#[from] EngineError),
    /// The identities cannot be opened.
    #[error("identities")]
    Identity(#[from] IdentityError),
    /// Keys or certificates cannot be used.
    #[error("TLS")]
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The descriptions of the services do not fit together.
    #[error("reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A listener failed.
    #[error("gRPC")]
    Transport(#[from] tonic::transport::Error),
    /// A task was cut off.
    #[error("a task of the coordinator was cut off")]
    CutOff,
}

/// Serves until `shutdown`, then drains.
///
/// # Errors
/// What keeps a coordinator from starting, or a listener that fails.
pub async fn serve(config: ServeConfig, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    Coordinator::open(config).await?.run(shutdown).await
}

/// A coordinator that listens and does not answer yet.
#[derive(Debug)]
pub struct Coordinator {
    config: ServeConfig,
    clock: Arc<dyn Clock>,
    engine: Handle,
    thread: EngineThread,
    registry: Registry,
    authenticator: Authenticator,
    tls: TlsSettings,
    grpc: TcpListener,
    http: TcpListener,
}

impl Coordinator {
    /// Reads the state back and listens; port 0 takes any free port.
    ///
    /// # Errors
    /// A configuration, a state, keys or an address that cannot be used.
    pub async fn open(config: ServeConfig) -> Result<Self, ServeError> {
        Self::with_noise(config, Origin::OperatingSystem).await
    }

    /// As [`Coordinator::open`], for simulations: noise of central privacy follows from the runs' seeds, so that the same
    /// run gives the same bytes, and protects nobody.
    ///
    /// # Errors
    /// As [`Coordinator::open`].
    pub async fn simulated(config: ServeConfig) -> Result<Self, ServeError> {
        Self::with_noise(config, Origin::Simulated).await
    }

    async fn with_noise(config: ServeConfig, noise: Origin) -> Result<Self, ServeError> {
        config.validate()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (grpc, http) = (listen(config.listen)?, listen(config.http_listen)?);
        let (state, now) = (config.state_dir.clone(), clock.now());
        let settings = EngineSettings { noise, privacy_limit: config.privacy, ..EngineSettings::default() };
        let opened = spawn_blocking(move || {
            let engine = Engine::open(&state, settings, now)?;
            Ok::<_, ServeError>((engine, Registry::open(&state)?))
        });
        let (engine, registry) = opened.await.map_err(|_| ServeError::CutOff)??;
        let (authenticator, tls) = security(&config, &registry, &clock)?;
        let (engine, thread) = crate::start(engine, Arc::clone(&clock))?;
        Ok(Self { config, clock, engine, thread, registry, authenticator, tls, grpc, http })
    }

    /// Address of the gRPC listener.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn grpc_address(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Address of the HTTP listener.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// The engine, for a program that holds a coordinator: what an operator asks for over gRPC, without the connection.
    #[must_use]
    pub fn engine(&self) -> &Handle {
        &self.engine
    }

    /// Answers until `shutdown`, then drains: no new calls, sessions end with `draining`, everything that was answered is
    /// durable, and open calls get the drain timeout.
    ///
    /// # Errors
    /// A listener that fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let (metrics, readiness) = (Arc::new(Metrics::default()), Readiness::default());
        let (health, health_service) = tonic_health::server::health_reporter();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let until_stopped = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
            // A sender that is gone has stopped too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let clock = Arc::clone(&self.clock);
        let now: crate::grpc::Now = Arc::new(move || clock.now());
        let gate = Arc::new(Gate::new(self.config.limits));
        let by_registry = ByRegistry::new(self.authenticator.clone(), Arc::clone(&now));
        let federation = FederationService::new(
            self.engine.clone(),
            by_registry,
            Arc::clone(&now),
            gate,
            self.config.federation.clone(),
            Arc::clone(&metrics),
        );
        let identity =
            IdentityService::new(self.registry.clone(), self.authenticator.clone(), IdentityLimits::default(), now);
        let operator = OperatorService::new(
            self.engine.clone(),
            self.registry.clone(),
            self.authenticator.clone(),
            Arc::clone(&self.clock),
            self.config.state_dir.clone(),
        );
        let handshake = Duration::from_millis(self.config.tls.handshake_timeout_ms);
        let incoming = patient(tls_incoming(self.grpc, self.tls).await, handshake);
        let grpc = server()
            .add_service(federation.into_server())
            .add_service(identity.into_server())
            .add_service(OperatorServer::new(operator))
            .add_service(health_service)
            .add_service(reflection()?)
            .serve_with_incoming_shutdown(incoming, until_stopped(stopped.clone()));
        let mut grpc = tokio::spawn(grpc);
        let app = router(self.engine.clone(), Arc::clone(&metrics), readiness.clone());
        let http = axum::serve(self.http, app).with_graceful_shutdown(until_stopped(stopped));
        let http = tokio::spawn(http.into_future());
        let helpers = [
            tokio::spawn(watch::rounds(self.engine.clone(), metrics)),
            tokio::spawn(watch::revocations(self.engine.clone(), self.registry.clone())),
        ];
        say(&health, true).await;
        readiness.set(true);
        tracing::info!(listen = %self.config.listen, http = %self.config.http_listen, "serving");
        let early = tokio::select! {
            () = shutdown => None,
            ended = &mut grpc => Some(ended),
        };
        readiness.set(false);
        say(&health, false).await;
        // The engine first: its sessions end, and with them the calls that the servers wait for.
        self.engine.shutdown().await;
        stop.send_replace(true);
        helpers.iter().for_each(tokio::task::JoinHandle::abort);
        let drain = Duration::from_millis(self.config.drain_timeout_ms);
        let ended = match early {
            Some(ended) => Some(ended),
            None => timeout(drain, &mut grpc).await.ok(),
        };
        if ended.is_none() {
            tracing::warn!("calls were still open at the end of the drain timeout");
            grpc.abort();
        }
        // Scrapes are short; one that is not has nothing to lose.
        let _ = timeout(drain, http).await;
        let thread = self.thread;
        spawn_blocking(move || thread.join()).await.map_err(|_| ServeError::CutOff)?;
        tracing::info!("stopped");
        ended.transpose().map_err(|_| ServeError::CutOff)?.transpose()?;
        Ok(())
    }
}

/// Connections that wait to be accepted, as far as the system allows: after a restart all clients come at once, and whoever
/// finds no place tries again after seconds.
const WAITING: u32 = 16 * 1024;

fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listening = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // The address of a coordinator that was just killed is free again, though its last connections linger.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(WAITING)
    };
    listening().map_err(|source| ServeError::Listen { address, source })
}

/// How callers are known and connections protected.
fn security(
    config: &ServeConfig,
    registry: &Registry,
    clock: &Arc<dyn Clock>,
) -> Result<(Authenticator, TlsSettings), ServeError> {
    let clock = Arc::clone(clock);
    let now: crate::Now = Arc::new(move || clock.now());
    let paths = PkiPaths::of_state(&config.state_dir);
    let (authenticator, mut tls) = match (config.insecure, config.tls.client_auth) {
        (true, _) => (Authenticator::Bearer(registry.clone()), TlsSettings::clear_text(config.listen, now)?),
        (false, ClientAuth::Certificate) => {
            (Authenticator::Certificates(registry.clone()), TlsSettings::mutual(&paths, now)?)
        }
        (false, ClientAuth::Bearer) => (Authenticator::Bearer(registry.clone()), TlsSettings::one_way(&paths, now)?),
    };
    tls.handshake_timeout = Duration::from_millis(config.tls.handshake_timeout_ms);
    tls.max_handshakes = config.tls.max_handshakes;
    tls.max_handshakes_per_address = config.tls.max_handshakes_per_address;
    Ok((authenticator, tls))
}

/// Tells gRPC's health service.
async fn say(health: &HealthReporter, serving: bool) {
    type Federation = FederationServer<FederationService<Handle, ByRegistry>>;
    type Operator = OperatorServer<OperatorService<Handle, Registry, Authenticator>>;
    let status = if serving { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
    let names = [
        "",
        <Federation as tonic::server::NamedService>::NAME,
        <IdentityServer<IdentityService> as tonic::server::NamedService>::NAME,
        <Operator as tonic::server::NamedService>::NAME,
    ];
    for name in names {
        health.set_service_status(name, status).await;
    }
}

#[cfg(test)]
mod tests;
