//! What the lines of a ledger say.

use serde::{Deserialize, Serialize};

use super::{Fingerprint, LedgerError};
use crate::{ClipBound, NoiseMode, Origin, PrivacyError, SampledGaussian};

/// Longest name of a run or an operator, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// Whose presence in the data is protected. Neighbouring data sets differ by one, added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrivacyUnit {
    /// One example.
    Example,
    /// All examples of one user.
    User,
    /// All data of one client.
    Client,
}

/// How a release is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mechanism {
    /// Poisson samples, clipped sums, Gaussian noise.
    SampledGaussian,
}

/// What a ledger is about; fixed when it is made, but for the limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LedgerTerms {
    /// The data set.
    pub data: Fingerprint,
    /// Who is protected.
    pub unit: PrivacyUnit,
    /// Number of units in the data set, `n`.
    pub units: u64,
    /// `δ`, below `1/n`: at `1/n` publishing one unit whole would count as private.
    pub delta: f64,
    /// The site's limit on `ε` for everything ever released about the data set.
    pub epsilon_limit: f64,
    /// Whether this is about people or about a simulation. A simulated ledger says so in its first line.
    pub origin: Origin,
}

impl LedgerTerms {
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        let parameter = |name, expected, found| Err(PrivacyError::Parameter { name, expected, found }.into());
        if self.units == 0 {
            return parameter("units", "at least 1", 0.0);
        }
        if !(self.delta > 0.0 && self.delta < 1.0) {
            return parameter("delta", "a number between 0 and 1", self.delta);
        }
        if self.delta * self.units as f64 >= 1.0 {
            return Err(LedgerError::DeltaTooLarge { delta: self.delta, units: self.units });
        }
        if !(self.epsilon_limit.is_finite() && self.epsilon_limit >= 0.0) {
            return parameter("epsilon-limit", "a finite number of at least 0", self.epsilon_limit);
        }
        Ok(())
    }
}

/// Releases that are to be charged together: the steps of one round of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Release {
    /// Noise multiplier, sample rate and number of steps.
    #[serde(with = "checked_event")]
    pub event: SampledGaussian,
    /// `C`, the sensitivity that the noise is sized for.
    pub clip_bound: ClipBound,
    /// How the steps are made.
    pub mechanism: Mechanism,
    /// How the noise is made.
    pub noise: NoiseMode,
    /// Who is protected; must be what the ledger protects.
    pub unit: PrivacyUnit,
    /// Number of units that are sampled from; must be the ledger's.
    pub units: u64,
    /// Name of the run.
    pub run: String,
    /// Number of the round.
    pub round: u64,
    /// Digest of the base weights.
    pub base: Fingerprint,
}

impl Release {
    pub(super) fn check(&self, terms: &LedgerTerms, origin: Origin) -> Result<(), LedgerError> {
        check_name("run", &self.run)?;
        if self.event.steps() == 0 {
            return Err(PrivacyError::Parameter { name: "steps", expected: "at least 1", found: 0.0 }.into());
        }
        if (self.unit, self.units) != (terms.unit, terms.units) {
            let (expected, found) = ((terms.unit, terms.units), (self.unit, self.units));
            return Err(LedgerError::OtherUnits { expected, found });
        }
        if origin != terms.origin {
            return Err(LedgerError::OtherOrigin { expected: terms.origin, found: origin });
        }
        Ok(())
    }
}

/// A change of the limit on `ε`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitChange {
    /// The new limit.
    pub epsilon: f64,
    /// The limit before.
    pub previous: f64,
    /// Who raised it; nobody has to answer for lowering it.
    pub operator: Option<String>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum LedgerEntry {
    /// The first line.
    Open(LedgerTerms),
    /// A release that is charged, whatever becomes of it.
    Reserve {
        /// What is released.
        release: Release,
        /// Where its randomness comes from.
        origin: Origin,
        /// `ε` of everything up to and with this release, by the accountant that was asked.
        epsilon: f64,
    },
    /// What came of a reservation. Changes no charge.
    Commit {
        /// Line number of the reservation.
        reservation: u64,
        /// Steps that were taken; at most those reserved.
        steps: u64,
        /// Digest of the update.
        update: Fingerprint,
    },
    /// Another limit.
    Limit(LimitChange),
}

/// A name that fits a line: not empty, not long, without control characters.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), LedgerError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(LedgerError::Name { what, bytes: name.len(), limit: MAX_NAME_BYTES });
    }
    Ok(())
}

/// Reads events through their constructor: an event that exists is within its ranges.
mod checked_event {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::SampledGaussian;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Event {
        noise_multiplier: f64,
        sample_rate: f64,
        steps: u64,
    }

    pub(super) fn serialize<S: Serializer>(event: &SampledGaussian, serializer: S) -> Result<S::Ok, S::Error> {
        let (noise_multiplier, sample_rate, steps) = (event.noise_multiplier(), event.sample_rate(), event.steps());
        Event { noise_multiplier, sample_rate, steps }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SampledGaussian, D::Error> {
        let Event { noise_multiplier, sample_rate, steps } = Event::deserialize(deserializer)?;
        SampledGaussian::new(noise_multiplier, sample_rate, steps).map_err(D::Error::custom)
    }
}
