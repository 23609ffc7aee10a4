//! Streams that give what is there and, if asked to, go on with what comes: driven by changes, never by a timer.

use std::future::Future;

use fedlora_adapter::ClientId;
use tokio::sync::{broadcast, broadcast::error::RecvError, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    parts::OperatorRegistry,
    refusal::{REVOKED, refuse},
};
use fedlora_proto::operator::ClientRequest;

/// Items that wait for a slow reader. Beyond them the source is not read, so that memory does not grow.
const QUEUE: usize = 16;

/// What a stream of the service carries.
pub(super) type Answers<T> = ReceiverStream<Result<T, Status>>;

/// Items of a source since the last time it was asked.
#[derive(Debug)]
pub(super) struct Batch<T> {
    /// In order; none when the reader has all that there is.
    pub(super) items: Vec<T>,
    /// Nothing will come after these.
    pub(super) over: bool,
}

/// Where a stream reads from.
pub(super) trait Source: Send + 'static {
    /// What it gives.
    type Item: Send + 'static;

    /// What is there and was not given before.
    fn next(&mut self) -> impl Future<Output = Result<Batch<Self::Item>, Status>> + Send;
}

/// The caller's own revocation, which ends its streams.
#[derive(Debug)]
pub(super) struct Revocation<R> {
    registry: R,
    revoked: broadcast::Receiver<ClientId>,
    caller: ClientId,
}

impl<R: OperatorRegistry> Revocation<R> {
    /// Watches from now on.
    pub(super) fn of(caller: ClientId, registry: &R) -> Self {
        Self { registry: registry.clone(), revoked: registry.revocations(), caller }
    }

    /// Waits until the caller is revoked; for ever once nobody can be.
    async fn wait(&mut self) {
        loop {
            match self.revoked.recv().await {
                Ok(client) if client == self.caller => return,
                Ok(_) => {}
                // Missed some: was the caller among them?
                Err(RecvError::Lagged(_)) => {
                    let request = ClientRequest { client_id: Some(self.caller.0), name: String::new() };
                    if self.registry.client(&request).is_ok_and(|client| client.state == "revoked") {
                        return;
                    }
                }
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

/// Streams a source to its present end, or with `changes` for as long as there is a reader and a coordinator.
pub(super) fn stream<S: Source, R: OperatorRegistry>(
    source: S,
    changes: Option<watch::Receiver<u64>>,
    mut revocation: Revocation<R>,
) -> Answers<S::Item> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = pump(source, changes, &sender) => {}
            () = sender.closed() => {}
            () = revocation.wait() => {
                let status = refuse(Code::PermissionDenied, REVOKED, "this identity was revoked");
                // A reader that is gone needs no telling.
                let _ = sender.send(Err(status)).await;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Passes items on until the source is over, the reader is gone, or nothing can change any more.
async fn pump<S: Source>(
    mut source: S,
    mut changes: Option<watch::Receiver<u64>>,
    sender: &mpsc::Sender<Result<S::Item, Status>>,
) {
    loop {
        // Before reading: what changes while the source is read wakes the wait below at once.
        if let Some(changes) = &mut changes {
            changes.borrow_and_update();
        }
        if !drain(&mut source, sender).await {
            return;
        }
        let Some(changes) = &mut changes else { return };
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Passes on all that is there; whether more may come.
async fn drain<S: Source>(source: &mut S, sender: &mpsc::Sender<Result<S::Item, Status>>) -> bool {
    loop {
        let batch = match source.next().await {
            Ok(batch) => batch,
            Err(status) => {
                let _ = sender.send(Err(status)).await;
                return false;
            }
        };
        let done = batch.items.is_empty();
        for item in batch.items {
            if sender.send(Ok(item)).await.is_err() {
                return false;
            }
        }
        if batch.over {
            return false;
        }
        if done {
            return true;
        }
    }
}
