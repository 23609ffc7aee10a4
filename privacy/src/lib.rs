//! Differential privacy for training on adapters: clipping, noise, sampling, accounting, and a ledger that says no.
//!
//! **Who is protected from whom.** One *unit* of the data (an example, a user's examples, or a whole client) is protected
//! from everybody who sees what leaves the client: the coordinator, the other clients, and whoever gets the model. Two
//! data sets are *neighbours* when one has a unit more than the other (add or remove). A mechanism is
//! `(ε, δ)`-differentially private when for neighbours `D`, `D'` and every set `S` of outputs
//! `P(M(D) ∈ S) ≤ e^ε P(M(D') ∈ S) + δ`. The client's own machine and its administrator are trusted.
//!
//! The crate knows slices of numbers and counts of steps, not adapters or models, so that it can be read and tested alone.

mod error;
mod event;

pub use error::PrivacyError;
pub use event::{Accountant, SampledGaussian};
