//! Messages that make no sense.

use fedlora_adapter::AdapterError;

/// Why a message from a peer was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtoError {
    /// A field that every version of the protocol has is not there.
    #[error("{message}: {field} is missing")]
    Missing {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A digest of another length.
    #[error("{field}: a digest has 32 bytes, found {found}")]
    DigestLength {
        /// The field.
        field: &'static str,
        /// Bytes found.
        found: usize,
    },
    /// An enumerator that this version does not know.
    #[error("{field}: unknown value {found}; the peer may be newer than this program")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// The number found.
        found: i32,
    },
    /// A number that does not fit the machine or makes no sense.
    #[error("{field}: {found} is out of range")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What was found.
        found: String,
    },
    /// An adapter specification that describes no usable adapter.
    #[error("adapter specification")]
    Spec(#[from] AdapterError),
}
