//! The one place where errors become gRPC statuses.
//!
//! Each carries a stable reason code in the metadata `fedlora-reason`, for scripts and for clients that decide whether
//! to try again; where trying again later helps, `retry-after` has the seconds to wait.

use std::{io, time::Duration};

use fedlora_adapter::Digest;
use fedlora_proto::{MAX_CHUNK_BYTES, PROTOCOL_VERSION, ProtoError};
use tonic::{Code, Status, metadata::MetadataValue};

use super::RoundsError;

/// Metadata key of the reason code.
pub(crate) const REASON: &str = "fedlora-reason";
/// Metadata key of the seconds to wait.
pub(crate) const RETRY_AFTER: &str = "retry-after";

/// Why a call of a client failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(
        "the client speaks protocol version {found}, this coordinator speaks {PROTOCOL_VERSION}; update the older one"
    )]
    WrongVersion { found: u32 },
    #[error(
        "run {run:?} is trained on the base model with digest {expected}, this client loaded the one with digest {found}; \
         get the model that the run names",
        expected = expected.to_hex(), found = found.to_hex()
    )]
    WrongBaseModel { run: String, expected: Digest, found: Digest },
    #[error("the first message of the stream must be {expected}")]
    FirstMessage { expected: &'static str },
    #[error("{expected} did not come within {} s", waited.as_secs())]
    Silent { expected: &'static str, waited: Duration },
    #[error("{expected} may come only once")]
    Repeated { expected: &'static str },
    #[error("a message without content, or of a kind that this version does not know")]
    UnknownMessage,
    #[error(transparent)]
    Message(#[from] ProtoError),
    #[error("{} s without a heartbeat", silent.as_secs())]
    HeartbeatsMissing { silent: Duration },
    #[error("the call ends: {reason}")]
    Ended { reason: &'static str },
    #[error("blob {} is not of an open round", blob.to_hex())]
    UnknownBlob { blob: Digest },
    #[error("offset {offset} lies behind the end of a blob of {size} bytes")]
    BeyondBlob { offset: u64, size: u64 },
    #[error("a chunk at byte {found}, expected one at byte {expected}")]
    ChunkOffset { expected: u64, found: u64 },
    #[error("a chunk of {found} bytes; at most {MAX_CHUNK_BYTES} are allowed")]
    ChunkTooLarge { found: usize },
    #[error("a chunk without bytes at byte {offset}")]
    ChunkEmpty { offset: u64 },
    #[error("the chunk at byte {offset} is damaged: its CRC-32C is {computed:08x}, {declared:08x} was announced")]
    ChunkDamaged { offset: u64, computed: u32, declared: u32 },
    #[error("a chunk up to byte {end} of an upload of {size} bytes")]
    BeyondUpload { end: u64, size: u64 },
    #[error("the upload ended after {committed} of {size} bytes; it can go on there")]
    Incomplete { committed: u64, size: u64 },
    #[error("what had come in of the upload is damaged; it has to be sent from its start")]
    SpoolDamaged,
    #[error("fewer than {bytes} bytes in {} s", window.as_secs())]
    Stalled { bytes: u64, window: Duration },
    #[error("a younger call of the same client took over")]
    Superseded,
    #[error("as many uploads as this coordinator takes at a time are on their way")]
    Busy { retry_after: Duration },
    #[error("more calls than one {whose} may make")]
    RateLimited { whose: &'static str, retry_after: Duration },
    #[error("the stream broke")]
    Broken(#[source] Status),
    #[error("no space is left in the state directory")]
    DiskFull,
    #[error("the state directory cannot be written or read")]
    Disk(#[source] io::Error),
    #[error(transparent)]
    Rounds(#[from] RoundsError),
    #[error("a task of this coordinator was cut off")]
    CutOff,
}

impl CallError {
    fn code(&self) -> Code {
        match self {
            Self::WrongVersion { .. } | Self::WrongBaseModel { .. } => Code::FailedPrecondition,
            Self::FirstMessage { .. }
            | Self::Repeated { .. }
            | Self::UnknownMessage
            | Self::Message(_)
            | Self::ChunkEmpty { .. }
            | Self::ChunkTooLarge { .. } => Code::InvalidArgument,
            Self::Silent { .. } | Self::HeartbeatsMissing { .. } | Self::Stalled { .. } => Code::DeadlineExceeded,
            Self::Ended { reason: "revoked" } => Code::PermissionDenied,
            Self::Ended { reason: "superseded" } | Self::Superseded | Self::Incomplete { .. } => Code::Aborted,
            Self::UnknownBlob { .. } => Code::NotFound,
            Self::BeyondBlob { .. } | Self::ChunkOffset { .. } | Self::BeyondUpload { .. } => Code::OutOfRange,
            Self::ChunkDamaged { .. } | Self::SpoolDamaged => Code::DataLoss,
            Self::Busy { .. } | Self::RateLimited { .. } | Self::DiskFull | Self::Rounds(RoundsError::Storage(_)) => {
                Code::ResourceExhausted
            }
            // A message above the decoding limit: tonic refuses it before it is read.
            Self::Broken(status) => match status.code() {
                Code::OutOfRange => Code::InvalidArgument,
                code => code,
            },
            Self::Ended { .. } | Self::Rounds(RoundsError::Stopped) => Code::Unavailable,
            Self::Disk(_) | Self::Rounds(RoundsError::Engine(_)) | Self::CutOff => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::WrongVersion { .. } => "WRONG_VERSION",
            Self::WrongBaseModel { .. } => "WRONG_BASE_MODEL",
            Self::FirstMessage { .. } | Self::Repeated { .. } | Self::UnknownMessage | Self::Message(_) => {
                "BAD_MESSAGE"
            }
            Self::Silent { .. } => "SILENT",
            Self::HeartbeatsMissing { .. } => "HEARTBEATS_MISSING",
            Self::Ended { reason: "revoked" } => "REVOKED",
            Self::Ended { reason: "superseded" } | Self::Superseded => "SUPERSEDED",
            Self::Ended { reason: "draining" } | Self::Rounds(RoundsError::Stopped) => "DRAINING",
            Self::Ended { .. } => "ENDED",
            Self::UnknownBlob { .. } => "UNKNOWN_BLOB",
            Self::BeyondBlob { .. } => "BEYOND_BLOB",
            Self::ChunkOffset { .. }
            | Self::ChunkTooLarge { .. }
            | Self::ChunkEmpty { .. }
            | Self::ChunkDamaged { .. }
            | Self::BeyondUpload { .. } => "BAD_CHUNK",
            Self::Incomplete { .. } => "INCOMPLETE",
            Self::SpoolDamaged => "SPOOL_DAMAGED",
            Self::Stalled { .. } => "STALLED",
            Self::Busy { .. } => "BUSY",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::Broken(status) if status.code() == Code::OutOfRange => "MESSAGE_TOO_LARGE",
            Self::Broken(_) => "BROKEN_STREAM",
            Self::DiskFull | Self::Rounds(RoundsError::Storage(_)) => "STORAGE_FULL",
            Self::Disk(_) => "STORAGE",
            Self::Rounds(RoundsError::Engine(_)) | Self::CutOff => "INTERNAL",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } | Self::RateLimited { retry_after, .. } => Some(*retry_after),
            // Space comes back when a person makes some.
            Self::DiskFull | Self::Rounds(RoundsError::Storage(_)) => Some(Duration::from_secs(30)),
            _ => None,
        }
    }
}

/// What the system says when a file does not fit.
impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Disk(error),
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        if error.code() == Code::Internal {
            // Paths and causes are for the operator's log alone.
            tracing::error!(error = &error as &dyn std::error::Error, "call failed");
        }
        if matches!(error, CallError::DiskFull) {
            // The client is told to wait; only the operator can make room.
            tracing::warn!("{error}: uploads wait until there is room");
        }
        let mut status = with_reason(error.code(), error.reason(), error.to_string());
        if let Some(wait) = error.retry_after() {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            status.metadata_mut().insert(RETRY_AFTER, seconds.into());
        }
        status
    }
}

/// A status with a reason code.
pub(crate) fn with_reason(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(REASON, MetadataValue::from_static(reason));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_a_code_a_reason_and_the_seconds_to_wait() {
        let wait = Duration::from_millis(1200);
        let status = Status::from(CallError::RateLimited { whose: "client", retry_after: wait });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get(REASON).expect("set"), "RATE_LIMITED");
        assert_eq!(status.metadata().get(RETRY_AFTER).expect("set"), "2");
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        let full = Status::from(CallError::from(io::Error::from(io::ErrorKind::StorageFull)));
        assert_eq!((full.code(), full.metadata().get(RETRY_AFTER).is_some()), (Code::ResourceExhausted, true));
        let broken = Status::from(CallError::from(io::Error::other("/secret/path")));
        assert_eq!(broken.code(), Code::Internal);
        assert!(!broken.message().contains("secret"));
    }
}
