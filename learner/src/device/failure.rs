//! What backends say when they fail.

use super::DeviceError;

/// Words of burn's backends for memory that cannot be had.
const SHORT_OF_MEMORY: [&str; 5] =
    ["out of device memory", "out of memory", "out-of-memory", "can't allocate", "not enough memory left"];

impl DeviceError {
    /// The device failed with this message.
    pub(crate) fn failed(message: String) -> Self {
        if Self::is_out_of_memory(&message) { Self::OutOfMemory(message) } else { Self::Failed(message) }
    }

    /// Whether a backend says so that it lacks memory. Errors reach us as text only.
    pub(crate) fn is_out_of_memory(message: &str) -> bool {
        let message = message.to_lowercase();
        SHORT_OF_MEMORY.iter().any(|words| message.contains(words))
    }
}
