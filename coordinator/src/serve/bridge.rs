//! Engine and identities as the services for clients want them.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Adapter, ClientId, Digest, RoundId};
use tokio::sync::mpsc;
use tonic::{Request, Status};

use crate::{
    Authenticator, CurrentRound, CurrentRun, EngineError, Handle, Now, Push, ReasonCode, Receipt, Role, RunId,
    SessionId, UpdateMeta,
    grpc::{Authenticate, Rounds, RoundsError},
    tls::peer_address,
};

impl From<EngineError> for RoundsError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Storage(source) => Self::Storage(io::Error::other(source)),
            EngineError::Stopped => Self::Stopped,
            error => Self::Engine(Box::new(error)),
        }
    }
}

impl Rounds for Handle {
    fn run(&self) -> Option<Arc<CurrentRun>> {
        Handle::run(self)
    }

    fn round(&self) -> Option<Arc<CurrentRound>> {
        Handle::round(self)
    }

    fn global(&self) -> Option<Arc<Adapter>> {
        Handle::global(self)
    }

    fn connected(&self) -> usize {
        Handle::connected(self)
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.blobs().path(digest)
    }

    fn spool_path(&self, client: ClientId, digest: Digest) -> PathBuf {
        self.blobs().spool_path(client, digest)
    }

    fn adopt(&self, spooled: &Path, digest: Digest) -> Result<(), RoundsError> {
        self.blobs().adopt(spooled, digest).map_err(|error| EngineError::from(error).into())
    }

    async fn connect(&self, client: ClientId, examples: u64) -> Result<(SessionId, mpsc::Receiver<Push>), RoundsError> {
        Ok(Handle::connect(self, client, examples).await?)
    }

    async fn disconnect(&self, client: ClientId, session: SessionId) {
        Handle::disconnect(self, client, session).await;
    }

    async fn progress(&self, client: ClientId, session: SessionId, round: RoundId, steps_done: u64) {
        Handle::progress(self, client, session, round, steps_done).await;
    }

    async fn decline(&self, client: ClientId, session: SessionId, round: RoundId, reason: String) {
        Handle::decline(self, client, session, round, reason).await;
    }

    async fn submit(&self, meta: UpdateMeta) -> Result<Receipt, RoundsError> {
        Ok(Handle::submit(self, meta).await?)
    }

    async fn refuse(&self, meta: UpdateMeta, code: ReasonCode, detail: String) -> Result<Receipt, RoundsError> {
        Ok(Handle::refuse(self, meta, code, detail).await?)
    }

    async fn receipt(
        &self,
        client: ClientId,
        run: RunId,
        round: RoundId,
        blob: Digest,
    ) -> Result<Option<Receipt>, RoundsError> {
        Ok(Handle::receipt(self, client, run, round, blob).await?)
    }
}

/// Clients as the register knows them.
#[derive(Clone)]
pub(super) struct ByRegistry {
    authenticator: Authenticator,
    now: Now,
}

impl ByRegistry {
    pub(super) fn new(authenticator: Authenticator, now: Now) -> Self {
        Self { authenticator, now }
    }
}

impl Authenticate for ByRegistry {
    fn client<T>(&self, request: &Request<T>) -> Result<ClientId, Status> {
        let peer = self.authenticator.authenticate(request, (self.now)())?;
        peer.require(Role::Client)?;
        Ok(peer.client)
    }

    fn address<T>(&self, request: &Request<T>) -> Option<IpAddr> {
        peer_address(request)
    }

    fn revoked(&self, client: ClientId) -> impl Future<Output = ()> + Send + 'static {
        let revoked = self.authenticator.revoked(client);
        async move {
            // What it says is what `CallError::Ended` says.
            let _ = revoked.await;
        }
    }
}
