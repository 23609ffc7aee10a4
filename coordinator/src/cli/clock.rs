//! The command line's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::Timestamp;

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the command line tells the rest of the program the time")]
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
