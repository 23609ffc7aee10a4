//! Calls that move bytes: tried again until they work, are not wanted any more, or are hopeless.

use std::{sync::Arc, time::Duration};

use tonic::Status;

use super::{LinkError, shared::Shared};
use crate::{backoff::Backoff, dialer::Dialer};

/// What all transfers share.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) shared: Arc<Shared>,
    pub(super) dialer: Arc<Dialer>,
    pub(super) backoff: Backoff,
}

impl Transfer {
    /// Waits after a failed try. False if the task is not wanted any more.
    ///
    /// # Errors
    /// A status that says that trying again is hopeless.
    pub(super) async fn wait(&self, status: &Status, backoff: &mut Backoff) -> Result<bool, LinkError> {
        if let Some(error) = LinkError::of(status) {
            return Err(error);
        }
        let wait = backoff.next(retry_after(status));
        let reason = self.dialer.unreachable(status);
        tracing::warn!(%reason, wait_ms = wait.as_millis() as u64, "transfer interrupted");
        tokio::select! {
            () = self.shared.unwanted() => Ok(false),
            () = tokio::time::sleep(wait) => Ok(true),
        }
    }
}

/// How long the server asks to wait, in whole seconds as in HTTP.
pub(super) fn retry_after(status: &Status) -> Option<Duration> {
    let value = status.metadata().get("retry-after")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
