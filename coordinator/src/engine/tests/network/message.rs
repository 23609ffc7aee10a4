//! What goes over the network: the calls and streams of the protocol, reduced to what they say.

use std::fmt;

use fedlora_adapter::{Digest, RoundId};
use tonic::codegen::Bytes;

use crate::{Push, Receipt, RunId, UpdateMeta, Verdict};

/// From a client.
#[derive(Debug, Clone)]
pub(super) enum Up {
    /// Opens the stream of tasks.
    Hello { examples: u64 },
    /// On the stream: this task will not be done.
    Decline { round: RoundId },
    /// What became of this update?
    Status { run: RunId, round: RoundId, blob: Digest },
    /// Begins an upload.
    Header(UpdateMeta),
    /// A piece of it.
    Chunk { offset: u64, data: Bytes },
    /// All pieces were sent.
    End,
    /// Asks for a global adapter.
    Fetch { blob: Digest, offset: usize },
}

/// From the coordinator. All but the first three end their line.
#[derive(Debug, Clone)]
pub(super) enum Down {
    /// The stream is open.
    Welcome,
    /// On the stream.
    Push(Push),
    /// A piece of an adapter.
    Bytes { offset: usize, data: Bytes },
    /// No piece is missing.
    Done,
    /// The answer to a status call.
    Status { committed: u64, receipt: Option<Receipt> },
    /// The answer to an upload.
    Receipt(Receipt),
    /// The call or the stream ended, for this reason.
    Failed(&'static str),
}

impl Down {
    pub(super) fn is_last(&self) -> bool {
        !matches!(self, Self::Welcome | Self::Push(_) | Self::Bytes { .. })
    }
}

/// A message of either way.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Up(Up),
    Down(Down),
}

impl fmt::Display for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello { .. } => write!(f, "hello"),
            Self::Decline { round } => write!(f, "declines {round}"),
            Self::Status { run, round, .. } => write!(f, "asks about its update of {run}, {round}"),
            Self::Header(update) => write!(f, "sends {} of {}, {}", update.blob, update.run, update.round),
            Self::Chunk { offset, .. } => write!(f, "sends bytes from {offset}"),
            Self::End => write!(f, "has sent all"),
            Self::Fetch { blob, offset } => write!(f, "fetches {blob} from {offset}"),
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome => write!(f, "welcome"),
            Self::Push(Push::Run(run)) => write!(f, "{}", run.id),
            Self::Push(Push::Task(round)) => write!(f, "task of {}", round.plan.round),
            Self::Push(Push::RoundClosed(_, round)) => write!(f, "{round} is closed"),
            Self::Push(Push::RunFinished(run, status)) => write!(f, "{run} is over: {status:?}"),
            Self::Push(Push::End(reason)) => write!(f, "the stream ends: {reason}"),
            Self::Bytes { offset, .. } => write!(f, "bytes from {offset}"),
            Self::Done => write!(f, "no more bytes"),
            Self::Status { committed, receipt } => {
                write!(f, "{committed} bytes are there, {:?}", receipt.as_ref().map(|receipt| receipt.verdict))
            }
            Self::Receipt(receipt) => write!(f, "{:?} {:?}", receipt.verdict, receipt.reason),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// Whether a receipt says that an update counts.
pub(super) fn counts(receipt: &Receipt) -> bool {
    matches!(receipt.verdict, Verdict::Accepted | Verdict::Duplicate)
}
