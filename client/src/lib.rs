//! What a participant does, whoever carries its messages and whatever trains its model.
//!
//! A [`Participant`] decides what a client starts from, sends and keeps. A [`Session`] plays rounds for one or more of
//! them over a [`Link`] with a [`Trainer`](fedlora_learner::Trainer). An institution's session has one participant;
//! the simulator's has all of them, so that a trainer may put several clients into one pass.

mod kept;
mod link;
mod participant;
mod session;

pub use kept::{Kept, KeptStore, MemoryStore};
pub use link::{Link, Submission, Task};
pub use participant::Participant;
pub use session::{Session, SessionError};
