//! Clients whose updates give them away: client i of n sends the i-th unit vector as its head, so that the published
//! mean says who was counted, and how often.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use fedlora_adapter::{AdapterError, AdapterSpec, AdapterUpdate, Digest, RoundPlan, Tensor};
use fedlora_client::Dialer;
use fedlora_proto::{
    MAX_CHUNK_BYTES, PROTOCOL_VERSION, digest_bytes,
    federation::{
        Chunk, ClientMessage, Heartbeat, Hello, Receipt, Run, Task, UploadHeader, UploadMessage, Verdict,
        client_message, server_message, upload_message,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, codegen::Bytes};

/// Name of the head tensor that carries the unit vector.
pub const HEAD: &str = "one_hot";

/// Which updates were acknowledged, by round.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged(Arc<Mutex<BTreeMap<u64, BTreeSet<usize>>>>);

impl Acknowledged {
    /// What was acknowledged so far.
    #[must_use]
    pub fn by_round(&self) -> BTreeMap<u64, BTreeSet<usize>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn note(&self, round: u64, client: usize) {
        let mut rounds = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rounds.entry(round).or_default().insert(client);
    }
}

/// One such client.
#[derive(Debug, Clone)]
pub struct OneHot {
    /// Its place in the vector.
    pub index: usize,
    /// Digest of the base model that it claims to have.
    pub base_model: Digest,
    /// How it calls.
    pub dialer: Arc<Dialer>,
    /// Where it notes what was acknowledged.
    pub acknowledged: Acknowledged,
}

impl OneHot {
    /// Takes part until the run is over, reconnecting as often as it must.
    pub async fn take_part(self) {
        while !self.session().await.unwrap_or(false) {
            // A refused connection fails at once: without a pause the client would only burn the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One session; whether the run is over.
    async fn session(&self) -> Result<bool, Status> {
        let mut client = self.dialer.federation();
        let (up, messages) = mpsc::channel(8);
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            software_version: "one-hot".to_owned(),
            base_model: digest_bytes(self.base_model),
            examples: 1,
        };
        send(&up, client_message::Kind::Hello(hello)).await;
        let request = self.dialer.request(ReceiverStream::new(messages));
        let mut down = client.participate(request).await?.into_inner();
        let mut run = None;
        let mut sequence = 0;
        while let Some(message) = down.message().await? {
            match message.kind {
                Some(server_message::Kind::Welcome(welcome)) => run = welcome.run,
                Some(server_message::Kind::Run(started)) => run = Some(started),
                Some(server_message::Kind::Task(task)) => {
                    self.answer(run.as_ref(), &task).await?;
                    sequence += 1;
                    send(&up, client_message::Kind::Heartbeat(Heartbeat { sequence, round: 0, steps_done: 0 })).await;
                }
                Some(server_message::Kind::RunFinished(_)) => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    async fn answer(&self, run: Option<&Run>, task: &Task) -> Result<(), Status> {
        let invalid = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        let run = run.ok_or_else(|| invalid(&"a task without a run"))?;
        let spec = run.spec.clone().ok_or_else(|| invalid(&"a run without an adapter"))?;
        let spec = AdapterSpec::try_from(spec).map_err(|error| invalid(&error))?;
        let plan = task.plan.clone().ok_or_else(|| invalid(&"a task without a plan"))?;
        let plan = plan.into_plan(&run.name).map_err(|error| invalid(&error))?;
        let bytes = self.update(&spec, &plan).map_err(|error| invalid(&error))?;
        let header = UploadHeader {
            run_id: task.run_id,
            round: plan.round.0,
            spec: digest_bytes(plan.spec),
            base: digest_bytes(plan.base),
            size_bytes: bytes.len() as u64,
            blake3: digest_bytes(Digest::of(&bytes)),
            examples: 1,
            steps: 1,
            train_loss: Some(0.5),
        };
        let receipt = upload(&self.dialer, header, bytes).await?;
        if matches!(receipt.verdict(), Verdict::Accepted | Verdict::Duplicate) {
            self.acknowledged.note(plan.round.0, self.index);
        }
        Ok(())
    }

    /// The file of an update: zeros, and the unit vector as its head.
    fn update(&self, spec: &AdapterSpec, plan: &RoundPlan) -> Result<Vec<u8>, AdapterError> {
        let mut tensors = BTreeMap::new();
        for (name, shape) in AdapterUpdate::expected(spec, plan.directive) {
            let mut values = vec![0.0; shape.iter().product()];
            if name.ends_with(HEAD) {
                values[self.index] = 1.0;
            }
            tensors.insert(name, Tensor::new(shape, values)?);
        }
        let views: BTreeMap<&str, _> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref())).collect();
        fedlora_adapter::encode(views)
    }
}

async fn send(up: &mpsc::Sender<ClientMessage>, kind: client_message::Kind) {
    // A stream that has ended is noticed where its answers are read.
    let _ = up.send(ClientMessage { kind: Some(kind) }).await;
}

/// Sends a whole update and waits for its receipt.
///
/// # Errors
/// The call's status.
pub async fn upload(dialer: &Dialer, header: UploadHeader, bytes: Vec<u8>) -> Result<Receipt, Status> {
    let bytes = Bytes::from(bytes);
    let mut messages = vec![UploadMessage { kind: Some(upload_message::Kind::Header(header)) }];
    for offset in (0..bytes.len()).step_by(MAX_CHUNK_BYTES) {
        let data = bytes.slice(offset..bytes.len().min(offset + MAX_CHUNK_BYTES));
        let chunk = Chunk { offset: offset as u64, crc32c: crc32c::crc32c(&data), data };
        messages.push(UploadMessage { kind: Some(upload_message::Kind::Chunk(chunk)) });
    }
    let request = dialer.request(tokio_stream::iter(messages));
    Ok(dialer.federation().upload(request).await?.into_inner())
}
