//! What happens to a round, and what comes of it.

use fedlora_adapter::{ClientId, Digest, RoundId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where a round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Updates are accepted.
    Collecting,
    /// The list of clients is frozen and being aggregated.
    Closed,
    /// The new global adapter exists.
    Aggregated(Digest),
    /// The new global adapter is announced.
    Published(Digest),
    /// No new global adapter came of it.
    Failed(FailureReason),
}

/// Why a round made no new global adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// Fewer updates than the minimum.
    TooFewResults {
        /// Updates accepted.
        accepted: usize,
        /// Updates needed.
        needed: usize,
    },
    /// The updates could not be combined.
    ServerStep,
}

/// What becomes of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It counts.
    Accepted,
    /// It had been accepted before, with the same content.
    Duplicate,
    /// Another update of this client had been accepted before; the first wins.
    Conflict,
    /// The client is not in this round's cohort.
    NotInvited,
    /// It came after the round had closed, valid or not, or names another round.
    Late,
    /// It is invalid and does not count; a valid one may follow.
    Rejected,
}

/// Something that happened to a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoundEvent {
    /// A valid update arrived.
    Submitted {
        /// Who sent it.
        client: ClientId,
        /// The round that it names.
        round: RoundId,
        /// Digest of its content.
        digest: Digest,
    },
    /// An invalid update arrived.
    Invalid {
        /// Who sent it.
        client: ClientId,
    },
    /// A client will not answer: it disconnected or declined.
    Left {
        /// Who.
        client: ClientId,
    },
    /// Time passed.
    Tick,
    /// The server step is done.
    Aggregated(Digest),
    /// The server step can never be done.
    StepFailed,
    /// The new adapter is durable and announced.
    Published,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundEffect {
    /// Tell a client what became of its update.
    Reply(ClientId, Verdict),
    /// Run the server step over exactly these clients, in this order.
    Aggregate(Vec<ClientId>),
    /// Make the new adapter durable, announce it, and report [`RoundEvent::Published`].
    Publish(Digest),
    /// Call with [`RoundEvent::Tick`] at this time.
    WakeAt(Timestamp),
    /// The round is over without a new adapter.
    Failed(FailureReason),
}

/// Numbers of clients by fate. Once a round has closed, the accepted, rejected and dropped ones are its whole cohort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Clients whose update counts.
    pub accepted: u64,
    /// Invited clients that sent invalid updates only.
    pub rejected: u64,
    /// Clients that sent an update after the close, or one for another round.
    pub late: u64,
    /// Invited clients that had sent nothing for this round at the close; 0 before.
    pub dropped: u64,
}
