//! What an engine is told, what it answers, and what it wants done.

use fedlora_adapter::{ClientId, RoundId};
use fedlora_proto::operator::RunSummary;

use crate::{
    ModelDescription, Push, ReasonCode, Receipt, RunId, SessionId, StepOutcome, StepTask, UpdateMeta, config::RunConfig,
};

/// What an operator wants of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Begin no round after the open one.
    Pause,
    /// Go on after a pause.
    Resume,
    /// End after the open round.
    Stop,
}

/// Something for an engine to do.
#[derive(Debug)]
pub enum Command {
    /// A client opened a session; an older one of the same client ends.
    Connect {
        /// Who.
        client: ClientId,
        /// Training examples that it says it has.
        examples: u64,
    },
    /// A session ended. The client still counts as there for the reconnect grace.
    Disconnect {
        /// Whose.
        client: ClientId,
        /// Which; an older one than the client's present one changes nothing.
        session: SessionId,
    },
    /// How far a client's training is.
    Progress {
        /// Whose.
        client: ClientId,
        /// By which session.
        session: SessionId,
        /// The round being trained.
        round: RoundId,
        /// Optimiser steps done in it.
        steps_done: u64,
    },
    /// A client will not do its task.
    Decline {
        /// Who.
        client: ClientId,
        /// By which session.
        session: SessionId,
        /// The task's round.
        round: RoundId,
        /// Why, in the client's words.
        reason: String,
    },
    /// A valid update whose bytes are durable.
    Submit(UpdateMeta),
    /// An invalid update.
    Refuse(UpdateMeta, ReasonCode, String),
    /// Begin a run.
    StartRun {
        /// Its configuration.
        config: Box<RunConfig>,
        /// The base model.
        model: Box<ModelDescription>,
        /// Asking twice with the same key starts one run; empty for none.
        key: String,
    },
    /// Begin a run that goes on from a published adapter.
    Restore {
        /// The old run.
        run: RunId,
        /// The adapter's round.
        round: RoundId,
    },
    /// Pause, resume or stop a run.
    Control {
        /// Which; the live one if none is named.
        run: Option<RunId>,
        /// What.
        control: Control,
    },
    /// Invite a client to no further round.
    Drain(ClientId),
    /// A client's right to take part ended: so does its session.
    Expel(ClientId),
    /// A server step is done, or could not be.
    Step(Box<StepOutcome>),
    /// Time passed.
    Tick,
    /// End all sessions.
    Shutdown,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A session.
    Session(SessionId),
    /// A verdict on an update.
    Receipt(Receipt),
    /// A run as it is now.
    Run(Box<RunSummary>),
    /// Nothing to say.
    Done,
}

/// What to do once a transaction is durable.
#[derive(Debug)]
pub enum Output {
    /// Tell a session.
    Push(SessionId, Push),
    /// Do this server step, on another thread, and report it by [`Command::Step`].
    Step(Box<StepTask>),
}
