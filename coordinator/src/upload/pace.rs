//! The least progress that a sender has to make.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::grpc::{Settings, progress::Received, status::CallError};

/// Counts bytes by windows of time. Counted are bytes of the call's body, so that a slow chunk is progress too.
#[derive(Debug)]
pub(super) struct Pace {
    received: Option<Received>,
    window: Duration,
    least: u64,
    before: u64,
    ends: Instant,
}

impl Pace {
    pub(super) fn new(settings: &Settings, received: Option<Received>) -> Self {
        let window = settings.stall_window();
        let mut pace =
            Self { received, window, least: settings.min_progress_bytes, before: 0, ends: Instant::now() + window };
        pace.rest();
        pace
    }

    /// Starts a new window: the sender was not waited for until now.
    pub(super) fn rest(&mut self) {
        self.before = self.bytes();
        self.ends = Instant::now() + self.window;
    }

    /// Returns at the end of the window. Cancel safe.
    pub(super) async fn window_end(&self) {
        sleep_until(self.ends).await;
    }

    /// Judges a window that is over and starts the next.
    pub(super) fn judge(&mut self) -> Result<(), CallError> {
        if self.bytes() - self.before < self.least {
            return Err(CallError::Stalled { bytes: self.least, window: self.window });
        }
        self.rest();
        Ok(())
    }

    /// Without the layer that counts there is no progress but whole messages; then any message starts a new window.
    pub(super) fn message(&mut self) {
        if self.received.is_none() {
            self.rest();
        }
    }

    fn bytes(&self) -> u64 {
        self.received.as_ref().map_or(0, Received::bytes)
    }
}
