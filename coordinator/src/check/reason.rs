//! The reason code of everything that can be wrong with an update file.

use std::error::Error;

use fedlora_adapter::AdapterError;

use super::Rejection;
use crate::ReasonCode;

/// The error without the file that it is in: clients know nothing of the coordinator's paths.
pub(super) fn innermost(error: AdapterError) -> AdapterError {
    match error {
        AdapterError::InFile { source, .. } => innermost(*source),
        error => error,
    }
}

impl From<&AdapterError> for Rejection {
    fn from(error: &AdapterError) -> Self {
        let mut detail = error.to_string();
        if let Some(source) = error.source() {
            detail = format!("{detail}: {source}");
        }
        Self { code: code(error), detail }
    }
}

fn code(error: &AdapterError) -> ReasonCode {
    match error {
        AdapterError::WrongLength { .. } | AdapterError::WrongShape { .. } => ReasonCode::WrongShape,
        AdapterError::MissingTensor { .. } => ReasonCode::MissingTensor,
        AdapterError::UnexpectedTensor { .. }
        | AdapterError::AmbiguousTensor { .. }
        | AdapterError::WrongFactor { .. } => ReasonCode::UnexpectedTensor,
        AdapterError::DuplicateTensor { .. } => ReasonCode::DuplicateTensor,
        AdapterError::NotFinite { .. } => ReasonCode::NotFinite,
        AdapterError::UnsupportedDtype { .. } => ReasonCode::WrongDtype,
        AdapterError::TooLarge { .. } => ReasonCode::TooLarge,
        AdapterError::WrongDigest { .. } | AdapterError::WrongProjection { .. } => ReasonCode::WrongSpec,
        // Whatever else there is, now or later, is a file that cannot be read as what it should be.
        _ => ReasonCode::MalformedFile,
    }
}
