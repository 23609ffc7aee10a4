//! Differential privacy for training on adapters: clipping, noise, sampling, accounting, and a ledger that says no.
//!
//! **Who is protected from whom.** One *unit* of the data (an example, a user's examples, or a whole client) is protected
//! from everybody who sees what leaves the client: the coordinator, the other clients, and whoever gets the model. Two
//! data sets are *neighbours* when one has a unit more than the other (add or remove). A mechanism is
//! `(ε, δ)`-differentially private when for neighbours `D`, `D'` and every set `S` of outputs
//! `P(M(D) ∈ S) ≤ e^ε P(M(D') ∈ S) + δ`. The client's own machine and its administrator are trusted.
//!
//! **The number of units is public.** The sample rate depends on it, and so does noise for a target, while accounting
//! takes both as equal for neighbours. So the exact pair has `n` places of which one may be blank: a blank place is drawn
//! like any other and contributes zero. The mathematics is that of adding or removing a unit; `n` itself is not hidden.
//!
//! The crate knows slices of numbers and counts of steps, not adapters or models, so that it can be read and tested alone.

pub mod audit;
pub mod calibrate;
mod clip;
mod epsilon;
mod error;
mod event;
mod gaussian;
mod history;
mod kind;
mod ledger;
mod loss;
mod noise;
mod pld;
mod rdp;
mod sampling;
#[cfg(test)]
mod scripted;

pub use clip::{AdaptiveClip, CLIP_SLACK, ClipBound, Clipped, Factors, LayerBounds, Outcome, clip, factor, factors};
pub use epsilon::Epsilon;
pub use error::PrivacyError;
pub use event::{Accountant, SampledGaussian};
pub use kind::AccountantKind;
pub use ledger::{
    Fingerprint, Ledger, LedgerEntry, LedgerError, LedgerHead, LedgerSummary, LedgerTerms, LedgerView, LimitChange,
    Mechanism, PrivacyUnit, Release, Reservation, Verification,
};
pub use noise::{GaussianNoise, NoiseMode, NoiseReport, NoiseRng, Origin, SecureRng, SimulatedRng};
pub use pld::PldAccountant;
pub use rdp::{RdpAccountant, renyi_divergence};
pub use sampling::PoissonSampler;
