//! What clients call: their session, the adapter of a round, and the way of their update.

mod participate;
mod rounds;
mod send;
mod settings;

use std::{fmt, sync::Arc};

use fedlora_adapter::{ClientId, RoundId};
use fedlora_proto::{
    MAX_CHUNK_BYTES, digest,
    federation::{
        Chunk, ClientMessage, DownloadRequest, Receipt, UploadMessage, UploadStatusRequest, UploadStatusResponse,
        Verdict as WireVerdict,
        federation_server::{Federation, FederationServer},
    },
};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Gate, progress::Received, status::CallError};
use crate::{RunId, Timestamp, Verdict, metrics::Metrics, upload};
use participate::{Messages, Session};

pub use rounds::{Authenticate, Rounds, RoundsError};
pub use settings::Settings;

/// Bytes of a message around its chunk: tags, offset, checksum.
const MESSAGE_SLACK_BYTES: usize = 1024;

/// Says what time it is.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The service for clients.
#[derive(Clone)]
pub struct FederationService<R, A> {
    rounds: R,
    authenticate: A,
    now: Now,
    gate: Arc<Gate>,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    uploads: Arc<upload::Uploads>,
    sending: Arc<Semaphore>,
}

impl<R, A> fmt::Debug for FederationService<R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FederationService").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<R: Rounds, A: Authenticate> FederationService<R, A> {
    /// A service over an engine. `gate` may be shared with other services.
    pub fn new(
        rounds: R,
        authenticate: A,
        now: Now,
        gate: Arc<Gate>,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let uploads = Arc::new(upload::Uploads::new(&settings));
        let sending = Arc::new(Semaphore::new(settings.max_concurrent_transfers.get()));
        Self { rounds, authenticate, now, gate, settings: Arc::new(settings), metrics, uploads, sending }
    }

    /// The service as a server: messages are bounded by the largest chunk.
    #[must_use]
    pub fn into_server(self) -> FederationServer<Self> {
        FederationServer::new(self).max_decoding_message_size(MAX_CHUNK_BYTES + MESSAGE_SLACK_BYTES)
    }

    /// Who is calling, if that is a client and one that may call now.
    fn admit<T>(&self, request: &Request<T>) -> Result<ClientId, Status> {
        self.gate.address(self.authenticate.address(request))?;
        let client = self.authenticate.client(request)?;
        self.gate.client(client)?;
        Ok(client)
    }
}

#[tonic::async_trait]
impl<R: Rounds, A: Authenticate> Federation for FederationService<R, A> {
    type ParticipateStream = Messages;
    type DownloadStream = ReceiverStream<Result<Chunk, Status>>;

    async fn participate(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::ParticipateStream>, Status> {
        let client = self.admit(&request)?;
        let revoked = Box::pin(self.authenticate.revoked(client));
        Ok(Response::new(Session::open(self, client, request.into_inner(), revoked)))
    }

    async fn download(&self, request: Request<DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let client = self.admit(&request)?;
        let revoked = Box::pin(self.authenticate.revoked(client));
        let DownloadRequest { blob, offset } = request.into_inner();
        let blob = digest("download.blob", &blob).map_err(CallError::from)?;
        Ok(Response::new(self.send(blob, offset, revoked).await?))
    }

    async fn upload(&self, request: Request<Streaming<UploadMessage>>) -> Result<Response<Receipt>, Status> {
        let client = self.admit(&request)?;
        let received = request.extensions().get::<Received>().cloned();
        let desk = upload::Desk {
            rounds: self.rounds.clone(),
            uploads: Arc::clone(&self.uploads),
            settings: Arc::clone(&self.settings),
            metrics: Arc::clone(&self.metrics),
        };
        let upload = upload::Upload {
            desk,
            client,
            revoked: Box::pin(self.authenticate.revoked(client)),
            inbound: request.into_inner(),
            received,
        };
        // On a task of its own: a call whose connection breaks is dropped, and what came in is to be kept.
        let receipt = tokio::spawn(upload.run()).await.map_err(|_| CallError::CutOff)??;
        Ok(Response::new(receipt_message(receipt)))
    }

    async fn upload_status(
        &self,
        request: Request<UploadStatusRequest>,
    ) -> Result<Response<UploadStatusResponse>, Status> {
        let client = self.admit(&request)?;
        let UploadStatusRequest { run_id, round, blake3 } = request.into_inner();
        let blob = digest("upload_status.blake3", &blake3).map_err(CallError::from)?;
        let receipt = self.rounds.receipt(client, RunId(run_id), RoundId(round), blob).await;
        let receipt = receipt.map_err(CallError::from)?.map(receipt_message);
        let path = self.rounds.spool_path(client, blob);
        let committed = tokio::task::spawn_blocking(move || upload::committed(&path)).await;
        let committed_bytes = committed.map_err(|_| CallError::CutOff)?;
        Ok(Response::new(UploadStatusResponse { committed_bytes, receipt }))
    }
}

/// A receipt as a message.
fn receipt_message(receipt: crate::Receipt) -> Receipt {
    let verdict = match receipt.verdict {
        Verdict::Accepted => WireVerdict::Accepted,
        Verdict::Duplicate => WireVerdict::Duplicate,
        Verdict::Conflict => WireVerdict::Conflict,
        Verdict::NotInvited => WireVerdict::NotInvited,
        Verdict::Late => WireVerdict::Late,
        Verdict::Rejected => WireVerdict::Rejected,
    };
    let reason = receipt.reason.map(|code| code.as_str().to_owned()).unwrap_or_default();
    Receipt { verdict: verdict.into(), reason, detail: receipt.detail }
}
