//! The one place where a deployed client looks at the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; 0 for a clock before it.
#[must_use]
pub(crate) fn now_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "certificates and the coordinator's clock are compared with it")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
