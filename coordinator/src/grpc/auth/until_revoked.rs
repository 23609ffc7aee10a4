//! Long calls end when their caller is revoked.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use fedlora_adapter::ClientId;
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::Stream;
use tonic::Status;

use super::refusal;
use crate::identity::{IdentityError, Registry};

/// The answers of a call, until its caller is revoked: then one last answer, `PERMISSION_DENIED` with the reason
/// `REVOKED`, and the end.
#[must_use = "a stream does nothing unless it is polled"]
pub struct UntilRevoked<S> {
    /// `None` once the caller was revoked or the stream has ended.
    answers: Option<Pin<Box<S>>>,
    revoked: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl<S> fmt::Debug for UntilRevoked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilRevoked").field("ended", &self.answers.is_none()).finish_non_exhaustive()
    }
}

/// Ends a stream of answers when a client is revoked; at once if it is already.
///
/// The revocation comes before answers that are ready: nothing more leaves once a revocation counts.
pub fn until_revoked<S>(answers: S, registry: &Registry, client: ClientId) -> UntilRevoked<S> {
    UntilRevoked { answers: Some(Box::pin(answers)), revoked: Box::pin(revoked(registry, client)) }
}

/// Resolves when a client is revoked, with what to tell it.
pub(super) fn revoked(registry: &Registry, client: ClientId) -> impl Future<Output = Status> + Send + use<> {
    // Listening begins before the first look: a revocation in between is heard.
    let mut revocations = registry.revocations();
    let registry = registry.clone();
    async move {
        while !registry.is_revoked(client) {
            match revocations.recv().await {
                // Whoever was revoked, and however many were missed, the register knows.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                // Not while a register is held.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
        refusal(&IdentityError::Revoked { name: client.to_string() })
    }
}

impl<S, T> Stream for UntilRevoked<S>
where
    S: Stream<Item = Result<T, Status>>,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(answers) = &mut this.answers else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(status) = this.revoked.as_mut().poll(cx) {
            this.answers = None;
            return Poll::Ready(Some(Err(status)));
        }
        let next = answers.as_mut().poll_next(cx);
        if let Poll::Ready(None) = next {
            this.answers = None;
        }
        next
    }
}
