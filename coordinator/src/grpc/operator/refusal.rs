//! What the operator's service refuses by itself, with stable reason codes.

use tonic::{Code, Status, metadata::MetadataValue};

/// Metadata key of the reason code.
pub(crate) const REASON_KEY: &str = "fedlora-reason";

/// The role does not allow the call.
pub(super) const WRONG_ROLE: &str = "WRONG_ROLE";
/// The caller's right to connect was taken away.
pub(super) const REVOKED: &str = "REVOKED";
/// The run's configuration cannot be used.
pub(super) const BAD_CONFIG: &str = "BAD_CONFIG";
/// The description of the model cannot be used.
pub(super) const BAD_MODEL: &str = "BAD_MODEL";
/// A field that is missing or out of range.
pub(super) const BAD_ARGUMENT: &str = "BAD_ARGUMENT";
/// Callers cannot lock themselves out.
pub(super) const OWN_IDENTITY: &str = "OWN_IDENTITY";
/// The disk or another part of the machine failed.
pub(super) const INTERNAL: &str = "INTERNAL";

/// A status with a stable reason code beside its words.
pub(super) fn refuse(code: Code, reason: &'static str, words: impl Into<String>) -> Status {
    let mut status = Status::new(code, words);
    status.metadata_mut().insert(REASON_KEY, MetadataValue::from_static(reason));
    status
}
