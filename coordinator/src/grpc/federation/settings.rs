//! Times and bounds of the service for clients.

use std::{num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{check::DEFAULT_MAX_FACTOR_DISTANCE, config::ConfigError};

/// Times and bounds of the service for clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// How often clients send heartbeats; after three missing ones a client is gone.
    pub heartbeat_interval_ms: u64,
    /// How long the first message of a stream may take.
    pub first_message_timeout_ms: u64,
    /// Time in which a transfer has to make progress.
    pub stall_window_ms: u64,
    /// Least progress of an upload in that time.
    pub min_progress_bytes: u64,
    /// Uploads, and as many downloads, that have memory at a time; others wait for their turn.
    pub max_concurrent_transfers: NonZeroUsize,
    /// How long a transfer waits for its turn.
    pub transfer_queue_timeout_ms: u64,
    /// Bytes of all uploads that are on their way at a time; a further one is told to come back later.
    pub max_upload_bytes: u64,
    /// How far a value of an update may be from the broadcast one, in learning rates per optimiser step; Adam never
    /// passes 7.3.
    pub max_factor_distance: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 3_000,
            first_message_timeout_ms: 10_000,
            stall_window_ms: 10_000,
            min_progress_bytes: 64 * 1024,
            max_concurrent_transfers: NonZeroUsize::new(64).unwrap_or(NonZeroUsize::MIN),
            transfer_queue_timeout_ms: 300_000,
            max_upload_bytes: 64 << 30,
            max_factor_distance: DEFAULT_MAX_FACTOR_DISTANCE,
        }
    }
}

impl Settings {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first key whose value makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("heartbeat-interval-ms", self.heartbeat_interval_ms),
            ("first-message-timeout-ms", self.first_message_timeout_ms),
            ("stall-window-ms", self.stall_window_ms),
            ("max-upload-bytes", self.max_upload_bytes),
        ] {
            if value == 0 {
                return Err(ConfigError::invalid(key, "must be at least 1"));
            }
        }
        if !(self.max_factor_distance.is_finite() && self.max_factor_distance > 0.0) {
            return Err(ConfigError::invalid("max-factor-distance", "must be a number above 0"));
        }
        Ok(())
    }

    /// Silence after which a client is gone: three heartbeats.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.heartbeat_interval_ms.saturating_mul(3))
    }

    pub(crate) fn first_message_timeout(&self) -> Duration {
        Duration::from_millis(self.first_message_timeout_ms)
    }

    pub(crate) fn stall_window(&self) -> Duration {
        Duration::from_millis(self.stall_window_ms)
    }

    pub(crate) fn transfer_queue_timeout(&self) -> Duration {
        Duration::from_millis(self.transfer_queue_timeout_ms)
    }
}
