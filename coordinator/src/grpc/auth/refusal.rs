//! Errors about identities as gRPC statuses: the one place where they become some.

use tonic::{Code, Status, metadata::MetadataValue};

use crate::identity::IdentityError;

/// Metadata key of the stable reason code.
const REASON: &str = "fedlora-reason";

/// The status of an error, its reason code in the metadata `fedlora-reason`. What went wrong inside stays inside.
pub(in crate::grpc) fn refusal(error: &IdentityError) -> Status {
    let reason = error.reason();
    if reason == "INTERNAL" {
        let source = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(%error, source, "identity-failed");
        return refused(Code::Internal, reason, "the coordinator could not do this; its log says why".into());
    }
    refused(code(error), reason, error.to_string())
}

/// A status with a reason code.
pub(in crate::grpc) fn refused(code: Code, reason: &'static str, message: String) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(REASON, MetadataValue::from_static(reason));
    status
}

fn code(error: &IdentityError) -> Code {
    match error {
        IdentityError::NoCredentials { .. }
        | IdentityError::UnknownCertificate { .. }
        | IdentityError::ExpiredCertificate { .. }
        | IdentityError::ExpiredAccess { .. }
        | IdentityError::UnknownToken => Code::Unauthenticated,
        IdentityError::Revoked { .. }
        | IdentityError::WrongRole { .. }
        | IdentityError::UsedToken { .. }
        | IdentityError::ExpiredToken { .. }
        | IdentityError::RevokedToken { .. } => Code::PermissionDenied,
        IdentityError::NameTaken { .. } | IdentityError::NumberTaken { .. } => Code::AlreadyExists,
        IdentityError::UnknownClient { .. } | IdentityError::UnknownTokenId { .. } => Code::NotFound,
        IdentityError::TooManyClients { .. } | IdentityError::TooManyCertificates { .. } => Code::ResourceExhausted,
        // What is left and is not internal is about the request itself.
        _ => Code::InvalidArgument,
    }
}
