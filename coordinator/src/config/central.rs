//! Client-level differential privacy, where the server adds the noise: the section `[central-privacy]`.

use fedlora_aggregation::{PrivateMean, Weighting};
use fedlora_privacy::{AdaptiveClip, ClipBound, NoiseMode, PldAccountant, PrivacyError, SampledGaussian, calibrate};
use serde::{Deserialize, Serialize};

use super::{ConfigError, RunConfig};

/// What a run asks of the server's noise. One client is protected, whatever its data, from everybody who sees published
/// adapters; the server sees the updates and is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CentralPrivacy {
    /// Largest norm of a client's change, all tensors that it sends as one vector; where `clipping` is `adaptive`, that of
    /// the first round.
    pub clipping_norm: f64,
    /// The `delta` of the guarantee, below one over the number of clients.
    pub target_delta: f64,
    /// Standard deviation of the noise on the sum over `clipping-norm`; excludes `target-epsilon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<f64>,
    /// As little noise as keeps the whole run within this `epsilon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_epsilon: Option<f64>,
    /// Whether the bound stays or follows the median of the norms.
    #[serde(default)]
    pub clipping: Clipping,
    /// Standard deviation of the noise on the number of clients within an adaptive bound; by default a twentieth of
    /// `clients-per-round` (arXiv 1905.03871, section 3.1), or more where the noise multiplier asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clipped_count_stddev: Option<f64>,
    /// How the clients of a round are chosen, as far as the guarantee may count on it.
    #[serde(default)]
    pub client_sampling: ClientSampling,
    /// Training examples from which on a client counts in full, with `weighting = "examples"`; a smaller one counts less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_cap: Option<u64>,
    /// How noise is made.
    #[serde(default = "grid")]
    pub noise: NoiseMode,
}

/// The bound on a client's change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clipping {
    /// Stays.
    #[default]
    Fixed,
    /// Follows the median of the norms.
    Adaptive,
}

/// What the guarantee assumes of the choice of a round's clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientSampling {
    /// Nothing: a client may be there in every round. Valid however clients come and go.
    #[default]
    Any,
    /// Every client is in a round with the same probability, independently and secretly, and the guarantee is the better
    /// for it. Simulations only: in a deployment those take part who are there.
    Poisson,
}

fn grid() -> NoiseMode {
    NoiseMode::Grid
}

/// A release of the server, as accountants see it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CentralRelease {
    /// One step.
    #[serde(flatten)]
    pub event: SampledGaussian,
    /// The bound on a client's change.
    pub clip_bound: ClipBound,
    /// The bound for the next round.
    pub next_clip_bound: ClipBound,
}

/// What a run's rounds release, for a known number of clients.
#[derive(Debug, Clone, PartialEq)]
pub struct CentralPlan {
    terms: CentralPrivacy,
    event: SampledGaussian,
    expected: f64,
}

impl CentralPrivacy {
    /// What each of `num_rounds` rounds is to release, for `expected` clients of `clients` in a round.
    ///
    /// # Errors
    /// A target that no noise can meet.
    pub fn plan(&self, num_rounds: u64, expected: usize, clients: usize) -> Result<CentralPlan, PrivacyError> {
        let sample_rate = match self.client_sampling {
            ClientSampling::Any => 1.0,
            ClientSampling::Poisson => self.sample_rate(expected, clients),
        };
        let noise_multiplier = match (self.noise_multiplier, self.target_epsilon) {
            (Some(multiplier), _) => multiplier,
            (None, epsilon) => {
                let budget = calibrate::Budget::new(epsilon.unwrap_or_default(), self.target_delta)?;
                calibrate::noise_multiplier(&PldAccountant::new(), budget, sample_rate, num_rounds)?
            }
        };
        let event = SampledGaussian::new(noise_multiplier, sample_rate, 1)?;
        let plan = CentralPlan { terms: *self, event, expected: expected as f64 };
        // What the first round would refuse is refused before the run begins.
        plan.mean(None)?;
        Ok(plan)
    }

    /// Probability of a client to be in a round.
    #[must_use]
    pub fn sample_rate(&self, expected: usize, clients: usize) -> f64 {
        (expected as f64 / clients.max(1) as f64).min(1.0)
    }

    /// How much a client with this many examples counts, from 0 to 1.
    #[must_use]
    pub fn weight(&self, weighting: Weighting, examples: u64) -> f64 {
        match (weighting, self.weight_cap) {
            (Weighting::Examples, Some(cap)) => (examples as f64 / cap.max(1) as f64).min(1.0),
            _ => 1.0,
        }
    }
}

impl CentralPlan {
    /// The mean of a round, whose bound may have moved since the first one.
    ///
    /// # Errors
    /// Noise that f32 cannot hold.
    pub fn mean(&self, bound: Option<ClipBound>) -> Result<PrivateMean, PrivacyError> {
        let bound = bound.map_or_else(|| ClipBound::new(self.terms.clipping_norm), Ok)?;
        let (sigma, mode) = (self.event.noise_multiplier(), self.terms.noise);
        match self.terms.clipping {
            Clipping::Fixed => PrivateMean::fixed(bound, sigma, self.expected, mode),
            Clipping::Adaptive => {
                let usual = AdaptiveClip::usual_count_deviation(sigma, self.expected);
                let deviation = self.terms.clipped_count_stddev.unwrap_or(usual);
                PrivateMean::adaptive(bound, sigma, deviation, self.expected, mode)
            }
        }
    }

    /// One round as accountants see it.
    #[must_use]
    pub fn event(&self) -> SampledGaussian {
        self.event
    }

    /// The run's terms.
    #[must_use]
    pub fn terms(&self) -> &CentralPrivacy {
        &self.terms
    }

    /// What to say where the noise on a mean of `values` values drowns the signal; none where it need not.
    #[must_use]
    pub fn drowned(&self, values: usize) -> Option<String> {
        let ratio = self.noise_to_signal(values);
        (ratio > 1.0).then(|| {
            format!(
                "central privacy: the noise on a round's mean is {ratio:.1} times as long as the largest change that {} \
                 clients can agree on; more clients per round, fewer rounds, a smaller rank or a larger epsilon would help, and \
                 so would protecting examples instead ([privacy])",
                self.expected
            )
        })
    }

    /// Length of the noise on the mean of `values` values over the largest change that the clients could make together.
    /// Above 1 the noise drowns whatever there is to learn in a round.
    #[must_use]
    pub fn noise_to_signal(&self, values: usize) -> f64 {
        self.event.noise_multiplier() * (values as f64).sqrt() / self.expected
    }
}

impl RunConfig {
    /// What central privacy needs and excludes.
    pub(super) fn validate_central(&self) -> Result<(), ConfigError> {
        let Some(central) = &self.central_privacy else { return Ok(()) };
        if self.privacy.is_some() {
            let reason = "excludes [privacy]: one protects clients from those who see adapters, the other examples from \
                          the server";
            return Err(ConfigError::invalid("central-privacy", reason));
        }
        let Some(expected) = self.clients_per_round else {
            let reason = "is needed with [central-privacy]: sums are divided by it, and it must be a public number";
            return Err(ConfigError::invalid("clients-per-round", reason));
        };
        central.validate(self.weighting)?;
        if !self.strategy()?.needs_only_mean() {
            let reason = "asks more of the clients than the mean of their changes, which is all that [central-privacy] \
                          releases: use fedavg, ffa-lora, ffa-orthonormal, fedsa-lora, fedsvd or rolora";
            return Err(ConfigError::invalid("method", reason));
        }
        // The number of clients is not known yet; with any, the noise is possible or not.
        let plan = central.plan(self.num_rounds, expected, expected);
        plan.map(|_| ()).map_err(|error| ConfigError::invalid("central-privacy", error.to_string()))
    }
}

impl CentralPrivacy {
    fn validate(&self, weighting: Weighting) -> Result<(), ConfigError> {
        let above_zero = |key: &str, value: f64| {
            let ok = value.is_finite() && value > 0.0;
            let key = format!("central-privacy.{key}");
            ok.then_some(()).ok_or_else(|| ConfigError::invalid(key, "must be a number above 0"))
        };
        above_zero("clipping-norm", self.clipping_norm)?;
        above_zero("target-delta", self.target_delta)?;
        above_zero("noise-multiplier", self.noise_multiplier.unwrap_or(1.0))?;
        above_zero("target-epsilon", self.target_epsilon.unwrap_or(1.0))?;
        above_zero("clipped-count-stddev", self.clipped_count_stddev.unwrap_or(1.0))?;
        let invalid = |key: &str, reason: &str| Err(ConfigError::invalid(format!("central-privacy.{key}"), reason));
        if self.target_delta >= 1.0 {
            return invalid("target-delta", "must be below one over the number of clients");
        }
        if self.noise_multiplier.is_some() == self.target_epsilon.is_some() {
            return invalid("noise-multiplier", "or target-epsilon must be given, one of them");
        }
        if self.clipped_count_stddev.is_some() && self.clipping == Clipping::Fixed {
            return invalid("clipped-count-stddev", "goes with clipping = \"adaptive\"");
        }
        match (weighting, self.weight_cap) {
            (Weighting::Examples, None | Some(0)) => {
                invalid("weight-cap", "is needed with weighting = \"examples\", and at least 1; or use \"uniform\"")
            }
            (Weighting::Uniform, Some(_)) => invalid("weight-cap", "goes with weighting = \"examples\""),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
