//! A history in the one form that accountants compute with: what reveals something, once per kind of step, sorted.
//!
//! The guarantee of a composition does not depend on the order of its steps, and neither does a sum of ours, to the bit.

use std::collections::BTreeMap;

use crate::SampledGaussian;

/// Steps of one kind: `0 < q <= 1`, `steps > 0`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Group {
    /// `sigma`, the noise multiplier.
    pub(crate) sigma: f64,
    /// `q`, the sample rate.
    pub(crate) q: f64,
    /// `T`, the number of steps.
    pub(crate) steps: f64,
}

/// What a history comes to.
#[derive(Debug)]
pub(crate) enum History {
    /// Nothing was released: `(0, 0)`.
    Silent,
    /// Something was released without noise: no finite `ε`.
    Exposed,
    /// At least one group, each with noise.
    Noisy(Vec<Group>),
}

impl History {
    /// Adds up equal steps and leaves out the ones that release nothing about anybody.
    pub(crate) fn new(history: &[SampledGaussian]) -> Self {
        // Bits of floats that are not negative are ordered like the floats.
        let mut steps = BTreeMap::new();
        for event in history.iter().filter(|event| event.steps() > 0 && event.sample_rate() > 0.0) {
            let key = (event.noise_multiplier().abs().to_bits(), event.sample_rate().to_bits());
            *steps.entry(key).or_insert(0.0) += event.steps() as f64;
        }
        let group = |((sigma, q), steps)| Group { sigma: f64::from_bits(sigma), q: f64::from_bits(q), steps };
        let groups: Vec<_> = steps.into_iter().map(group).collect();
        match groups.first() {
            None => Self::Silent,
            Some(first) if first.sigma <= 0.0 => Self::Exposed,
            Some(_) => Self::Noisy(groups),
        }
    }
}
