//! What a participant does, whoever carries its messages and whatever trains its model.
//!
//! A [`Participant`] decides what a client starts from, sends and keeps. A [`Session`] plays rounds for one or more of
//! them over a [`Link`] with a [`Trainer`](fedlora_learner::Trainer). An institution's session has one participant;
//! the simulator's has all of them, so that a trainer may put several clients into one pass.
//!
//! A deployed client adds a [`GrpcLink`] to a coordinator, a [`StateDir`] for what must survive a restart, an
//! [`Identity`] and a [`Site`] with its own model and data.

mod backoff;
mod budget;
pub mod cli;
mod clock;
pub mod config;
mod dialer;
pub mod files;
pub mod identity;
mod kept;
mod link;
mod outbox;
mod participant;
pub mod preflight;
mod progress;
mod renewal;
mod server;
mod session;
mod site;
mod state;
mod terms;
#[cfg(test)]
mod testing;
mod tls;

pub use backoff::Backoff;
pub use budget::{Budget, BudgetConfig, BudgetError, Code};
pub use dialer::{DialError, Dialer, Unreachable};
pub use identity::Identity;
pub use kept::{DiskStore, Kept, KeptError, KeptStore, MemoryStore, decode_kept, encode_kept};
pub use link::grpc::{GrpcLink, LinkError, LinkSettings};
pub use link::{Link, Submission, Task, grpc};
pub use outbox::{Letter, Outbox, OutboxError, TaskKey};
pub use participant::Participant;
pub use progress::Progress;
pub use renewal::renew;
pub use server::{Server, ServerError};
pub use session::{Session, SessionError};
pub use site::{Changed, Share, SharedRows, Site, SiteConfig, SiteError, SiteTrainer};
pub use state::{StateDir, StateError};
pub use terms::{RunInfo, Terms};
pub use tls::{Shown, TlsError};
