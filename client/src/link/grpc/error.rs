//! What ends a link for good. A lost connection does not.

use std::{io, path::PathBuf};

use fedlora_adapter::{AdapterError, Digest};
use fedlora_proto::ProtoError;
use tonic::{Code, Status};

use crate::{files::FileError, outbox::OutboxError};

/// Why a link cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The coordinator says that it will never work like this.
    #[error("the coordinator turned this client away: {message}{}", next_step(*code, reason))]
    Refused {
        /// The status code.
        code: Code,
        /// Its stable reason code, if it gave one.
        reason: String,
        /// Its words.
        message: String,
    },
    /// Another process has the same identity.
    #[error(
        "another process took part with this client's identity; stop one of the two, and give each client an identity \
         of its own"
    )]
    Superseded,
    /// The run wants another base model.
    #[error(
        "the run {run} needs the base model {expected}, this client has {found}: use the same download, and the same \
         pooling, as the operator's `fedlora-client describe`"
    )]
    BaseModel {
        /// Name of the run.
        run: String,
        /// Digest of the run's base model.
        expected: Digest,
        /// Digest of this client's.
        found: Digest,
    },
    /// A message that makes no sense.
    #[error("the coordinator sent a message that makes no sense")]
    Message(#[from] ProtoError),
    /// A message that contradicts the ones before.
    #[error("the coordinator sent {what}")]
    Nonsense {
        /// What.
        what: &'static str,
    },
    /// A global adapter that is not the one announced.
    #[error("the global adapter of the round cannot be used")]
    Adapter(#[from] AdapterError),
    /// The run failed at the coordinator.
    #[error("the run failed at the coordinator: its log says why")]
    RunFailed,
    /// The update on its way.
    #[error("outbox")]
    Outbox(#[from] OutboxError),
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// A file that cannot be read.
    #[error("cannot access {path}; make sure that there is space and that this user may write there")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gives no threads.
    #[error("cannot start the threads of the connection")]
    Runtime(#[source] io::Error),
    /// A result for a task that was not handed out, or a link that has ended.
    #[error("the link has ended")]
    Ended,
}

/// What to do about a refusal.
fn next_step(code: Code, reason: &str) -> String {
    let step = match (code, reason) {
        (_, "REVOKED") => "ask the operator why the identity was revoked",
        (_, "CERTIFICATE_EXPIRED") => "check this machine's clock, then enrol again with a new token",
        (Code::Unauthenticated, _) => "enrol with a new token, or check that `identity` is the right folder",
        (Code::PermissionDenied, _) => "ask the operator",
        _ => return String::new(),
    };
    format!("; {step}")
}

impl LinkError {
    /// The error that a status stands for, if trying again is hopeless.
    pub(super) fn of(status: &Status) -> Option<Self> {
        let reason = reason(status);
        if reason.eq_ignore_ascii_case("superseded") {
            return Some(Self::Superseded);
        }
        let hopeless =
            matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition);
        hopeless.then(|| Self::Refused { code: status.code(), reason, message: status.message().to_owned() })
    }
}

/// Whether a coordinator no longer has what was asked for, because its round is over.
pub(super) fn is_over(status: &Status) -> bool {
    reason(status) == "UNKNOWN_BLOB"
}

/// The stable reason code of a status; empty where there is none.
fn reason(status: &Status) -> String {
    let reason = status.metadata().get("fedlora-reason").and_then(|value| value.to_str().ok());
    reason.unwrap_or_default().to_owned()
}
