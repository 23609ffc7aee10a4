//! Time as the caller tells it.

use std::ops::Add;

use serde::{Deserialize, Serialize};

/// Milliseconds: since the Unix epoch in a server, since the start of the run in the simulator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Add<u64> for Timestamp {
    type Output = Self;

    /// Later by a number of milliseconds; the far future instead of an overflow.
    fn add(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }
}
