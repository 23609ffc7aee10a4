//! Leave to train.

use super::{LedgerHead, Release};
use crate::SampledGaussian;

/// A release that has been charged: what a trainer must have before it touches the data.
///
/// It comes from [`Ledger::reserve`](super::Ledger::reserve) alone and cannot be copied, so that one charge serves one
/// training. Dropping it gives nothing back.
#[derive(Debug)]
#[must_use = "the release is charged already"]
pub struct Reservation {
    line: u64,
    head: LedgerHead,
    release: Release,
    epsilon: f64,
}

impl Reservation {
    pub(super) fn new(line: u64, head: LedgerHead, release: Release, epsilon: f64) -> Self {
        Self { line, head, release, epsilon }
    }

    /// Line number in the ledger.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Noise multiplier, sample rate and number of steps to train with; no other numbers are paid for.
    #[must_use]
    pub fn event(&self) -> SampledGaussian {
        self.release.event
    }

    /// All that was reserved.
    #[must_use]
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// `ε` of the whole history with this release.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Where the ledger stood after it.
    #[must_use]
    pub fn head(&self) -> LedgerHead {
        self.head
    }
}
