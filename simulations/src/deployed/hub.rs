//! The coordinator of a deployed run, with identities and state directories for its clients, in a temporary directory.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use fedlora_adapter::{ClientId, Digest};
use fedlora_client::{Backoff, Dialer, GrpcLink, Identity, LinkSettings, Progress, Server, Shown, StateDir, Terms};
use fedlora_coordinator::{
    Clock, Handle, Registry, Role, SystemClock,
    config::ServeConfig,
    identity::pki::init_pki,
    serve::{Coordinator, ServeError},
};
use fedlora_learner::Watch;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

use super::DeployedError;

/// The only name that the coordinator's certificate has to carry.
const HOST: &str = "localhost";

/// A coordinator that serves on a free port of this machine.
#[derive(Debug)]
pub(super) struct Hub {
    runtime: Runtime,
    serving: JoinHandle<Result<(), ServeError>>,
    stop: oneshot::Sender<()>,
    engine: Handle,
    server: Server,
    // Last, so that it outlives those who write into it.
    directory: TempDir,
}

impl Hub {
    /// Makes an authority and an identity for each client, and starts to serve.
    pub(super) fn open(clients: &[ClientId]) -> Result<Self, DeployedError> {
        let directory = tempfile::tempdir().map_err(DeployedError::Directory)?;
        let state = directory.path().join("coordinator");
        let now = SystemClock::new().now();
        init_pki(&state.join("pki"), &[HOST.to_owned()], now)?;
        issue(&Registry::open(&state)?, &directory, clients)?;
        let local = (Ipv4Addr::LOCALHOST, 0).into();
        let config = ServeConfig { listen: local, http_listen: local, state_dir: state, ..ServeConfig::default() };
        let runtime = Runtime::new().map_err(DeployedError::Runtime)?;
        let coordinator = runtime.block_on(Coordinator::simulated(config))?;
        let port = coordinator.grpc_address().map_err(DeployedError::Runtime)?.port();
        let server = format!("https://{HOST}:{port}").parse()?;
        let (engine, (stop, stopped)) = (coordinator.engine().clone(), oneshot::channel());
        let serving = runtime.spawn(coordinator.run(async {
            // A hub that is gone has stopped too.
            let _ = stopped.await;
        }));
        Ok(Self { runtime, serving, stop, engine, server, directory })
    }

    /// The coordinator's engine.
    pub(super) fn engine(&self) -> Handle {
        self.engine.clone()
    }

    /// Waits for something that happens at the coordinator.
    pub(super) fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// A client's link to the coordinator.
    pub(super) fn link(&self, client: ClientId, base_model: Digest, examples: u64) -> Result<GrpcLink, DeployedError> {
        let identity = Identity::load(&identity(&self.directory, client))?;
        let ca = identity.ca_pem.clone().unwrap_or_default();
        let state = StateDir::open(&self.directory.path().join(format!("state-{client}")), ca.as_bytes())?;
        let settings = LinkSettings {
            dialer: Arc::new(Dialer::new(&self.server, &identity, &Arc::new(Shown::default()))?),
            base_model,
            examples,
            stay: false,
            backoff: Backoff::new(client.0),
            terms: Terms::default(),
            watch: Watch::default(),
            progress: Progress::silent(),
        };
        Ok(GrpcLink::start(settings, state)?)
    }

    /// Stops the coordinator in good order.
    pub(super) fn close(self) -> Result<(), DeployedError> {
        let Self { runtime, serving, stop, .. } = self;
        // One that has ended already says why below.
        let _ = stop.send(());
        runtime.block_on(serving).map_err(|_| ServeError::CutOff)??;
        Ok(())
    }
}

/// Enrols the clients; they get the numbers that they have in the simulation.
fn issue(registry: &Registry, directory: &TempDir, clients: &[ClientId]) -> Result<(), DeployedError> {
    for &client in clients {
        let now = SystemClock::new().now();
        let given = registry.issue_identity(&identity(directory, client), &client.to_string(), Role::Client, now)?;
        if given != client {
            return Err(DeployedError::Numbers { expected: client, found: given });
        }
    }
    Ok(())
}

fn identity(directory: &TempDir, client: ClientId) -> PathBuf {
    directory.path().join(format!("identity-{client}"))
}
