//! Trouble on purpose: clients that vanish, lag, repeat themselves or send rubbish, chosen by the run's seed.

use std::collections::BTreeMap;

use fedlora_adapter::{AdapterUpdate, ClientId, Purpose, RoundId, Seed, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use fedlora_coordinator::config::ConfigError;

/// Rates are chances per client and round, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Faults {
    /// Clients that never answer.
    pub dropout_rate: f64,
    /// Clients that take `straggler-factor` times as long.
    pub straggler_rate: f64,
    /// How much longer stragglers take.
    pub straggler_factor: f64,
    /// Clients that send their update twice.
    pub duplicate_rate: f64,
    /// Clients that send an update with a value that is not a number.
    pub corrupt_rate: f64,
    /// Virtual milliseconds of one optimiser step.
    pub step_ms: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            dropout_rate: 0.0,
            straggler_rate: 0.0,
            straggler_factor: 10.0,
            duplicate_rate: 0.0,
            corrupt_rate: 0.0,
            step_ms: 100,
        }
    }
}

/// What happens to one client in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fate {
    /// Never answers.
    pub drops: bool,
    /// Sends twice.
    pub repeats: bool,
    /// Sends rubbish.
    pub corrupts: bool,
    /// Takes this many times as long as its work.
    pub slowness: f64,
}

impl Faults {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first key out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rates = [
            ("faults.dropout-rate", self.dropout_rate),
            ("faults.straggler-rate", self.straggler_rate),
            ("faults.duplicate-rate", self.duplicate_rate),
            ("faults.corrupt-rate", self.corrupt_rate),
        ];
        if let Some((key, _)) = rates.iter().find(|(_, rate)| !(0.0..=1.0).contains(rate)) {
            return Err(ConfigError::invalid(*key, "must be at least 0 and at most 1"));
        }
        if !(self.straggler_factor.is_finite() && self.straggler_factor >= 1.0) {
            return Err(ConfigError::invalid("faults.straggler-factor", "must be a number of at least 1"));
        }
        Ok(())
    }

    /// The fate of a client in a round; the same whatever happens to others.
    #[must_use]
    pub fn fate(&self, seed: Seed, round: RoundId, client: ClientId) -> Fate {
        let mut rng = seed.client(Purpose::Faults, round, client);
        // All draws are always made, so that changing one rate leaves the other faults where they were.
        let mut hit = |rate: f64| rng.random::<f64>() < rate;
        Fate {
            drops: hit(self.dropout_rate),
            repeats: hit(self.duplicate_rate),
            corrupts: hit(self.corrupt_rate),
            slowness: if hit(self.straggler_rate) { self.straggler_factor } else { 1.0 },
        }
    }
}

/// The tensors of an update with their first value replaced by a NaN.
#[must_use]
pub fn corrupted(update: &AdapterUpdate) -> BTreeMap<String, Tensor> {
    let mut tensors = update.tensors().clone();
    if let Some(value) = tensors.values_mut().next().and_then(|tensor| tensor.values_mut().first_mut()) {
        *value = f32::NAN;
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_met_and_one_rate_does_not_move_another() {
        let fates = |faults: Faults| -> Vec<Fate> {
            (0..4000).map(|client| faults.fate(Seed(5), RoundId(1), ClientId(client))).collect()
        };
        let faults = Faults { dropout_rate: 0.25, duplicate_rate: 0.5, ..Faults::default() };
        let drops = fates(faults).iter().filter(|fate| fate.drops).count();
        // Binomial(4000, 0.25) has standard deviation 27.4: five of them on either side.
        assert!((863..=1137).contains(&drops), "{drops}");
        let without = fates(Faults { dropout_rate: 0.0, ..faults });
        assert!(fates(faults).iter().zip(&without).all(|(a, b)| a.repeats == b.repeats));
    }
}
