//! What can be in the event log, by the names that operators and scripts know.

use serde::{Deserialize, Serialize};

/// Kind of an event. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EventKind {
    RunStarted,
    RunPaused,
    RunResumed,
    /// A stop was asked for; the open round is finished first.
    RunStopping,
    RunStopped,
    RunCompleted,
    RunFailed,
    RoundOpened,
    RoundClosed,
    RoundAggregated,
    RoundPublished,
    RoundFailed,
    ServerStepFailed,
    ClientJoined,
    ClientLeft,
    ClientDrained,
    ClientDeclined,
    UpdateAccepted,
    UpdateRejected,
    UpdateLate,
}

impl EventKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RunStarted => "run-started",
            Self::RunPaused => "run-paused",
            Self::RunResumed => "run-resumed",
            Self::RunStopping => "run-stopping",
            Self::RunStopped => "run-stopped",
            Self::RunCompleted => "run-completed",
            Self::RunFailed => "run-failed",
            Self::RoundOpened => "round-opened",
            Self::RoundClosed => "round-closed",
            Self::RoundAggregated => "round-aggregated",
            Self::RoundPublished => "round-published",
            Self::RoundFailed => "round-failed",
            Self::ServerStepFailed => "server-step-failed",
            Self::ClientJoined => "client-joined",
            Self::ClientLeft => "client-left",
            Self::ClientDrained => "client-drained",
            Self::ClientDeclined => "client-declined",
            Self::UpdateAccepted => "update-accepted",
            Self::UpdateRejected => "update-rejected",
            Self::UpdateLate => "update-late",
        }
    }
}
