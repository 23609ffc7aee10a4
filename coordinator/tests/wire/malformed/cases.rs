//! What a case consists of.

use fedlora_proto::federation::{Receipt, UploadMessage, Verdict};
use tonic::{Code, Status};

use crate::support::{World, chunks, messages, told};

/// Who sends the malformed ones.
pub(super) const SENDER: u64 = 2;

/// A malformed upload.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) client: u64,
    pub(super) messages: Vec<UploadMessage>,
    pub(super) expected: Expected,
}

/// What becomes of it.
#[derive(Debug, PartialEq)]
pub(super) enum Expected {
    Verdict(Verdict, String),
    Status(Code, String),
}

impl Expected {
    pub(super) fn of(answer: &Result<Receipt, Status>) -> Self {
        match answer {
            Ok(receipt) => Self::Verdict(receipt.verdict(), receipt.reason.clone()),
            Err(status) => {
                let (code, reason) = told(status);
                Self::Status(code, reason)
            }
        }
    }
}

pub(super) fn rejected(reason: &str) -> Expected {
    Expected::Verdict(Verdict::Rejected, reason.to_owned())
}

pub(super) fn status(code: Code, reason: &str) -> Expected {
    Expected::Status(code, reason.to_owned())
}

/// A bad file under an honest header.
pub(super) fn file(world: &World, name: &'static str, file: &[u8], reason: &str) -> Case {
    let messages = messages(world.header(file), chunks(file, 0, 100));
    Case { name, client: SENDER, messages, expected: rejected(reason) }
}
