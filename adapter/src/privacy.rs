//! What a run asks of private training: one `[privacy]` section, and one message, for simulator, coordinator and client.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much noise each step of private training gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NoiseLevel {
    /// Standard deviation over the clipping norm, the same for every client.
    Multiplier(f64),
    /// As little as keeps a client within its target. It follows from the client's number of examples, so each works
    /// out its own.
    Target {
        /// The target `epsilon`, at the terms' `delta`.
        epsilon: f64,
        /// Rounds that the client may take part in before the target is reached; none for all rounds of the run.
        participations: Option<u64>,
    },
}

/// How an example's gradient is bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientClipping {
    /// All trained tensors are one vector with one bound.
    #[default]
    Flat,
    /// Each trained tensor has the same share of the bound, `max-grad-norm / sqrt(tensors)`.
    PerLayer,
    /// One bound, which follows the median of the norms from step to step; each round starts at `max-grad-norm`
    /// (arXiv 1905.03871).
    Adaptive,
}

/// How the noise on gradients is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseKind {
    /// Integers on a public grid: the accounted distribution to the last bit.
    #[default]
    Grid,
    /// Floating-point normal numbers: ten times as fast, and ledgers say that it is not exact.
    Fast,
}

/// Whose presence in a client's data is protected. Neighbouring data sets differ by one, added or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtectedUnit {
    /// One example.
    #[default]
    Example,
    /// All examples of one user at the client.
    User,
}

impl fmt::Display for ProtectedUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Example => "example",
            Self::User => "user",
        })
    }
}

/// Terms of differentially private training (DP-SGD, arXiv 1607.00133, algorithm 1).
///
/// One unit is protected: an example, or all examples of a user. Each step takes a Poisson sample of `batch_size` expected
/// units, clips the mean gradient of each unit's examples over all trained tensors together, and adds Gaussian noise to
/// the sum. The terms are a request: what a site allows is its own budget's business.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct PrivacyTerms {
    noise: NoiseLevel,
    max_grad_norm: f64,
    delta: f64,
    clipping: GradientClipping,
    noise_kind: NoiseKind,
    unit: ProtectedUnit,
    max_examples_per_user: u32,
}

/// Examples that a step uses of a drawn user, unless the terms say otherwise.
const EXAMPLES_PER_USER: u32 = 16;

/// The terms as users write them, with Opacus' names.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Keys {
    max_grad_norm: f64,
    target_delta: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noise_multiplier: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_epsilon: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    participations: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    clipping: GradientClipping,
    #[serde(default, skip_serializing_if = "is_default")]
    noise: NoiseKind,
    #[serde(default, skip_serializing_if = "is_default")]
    unit: ProtectedUnit,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_examples_per_user: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Terms that make no sense.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivacyTermsError {
    /// A value outside its range.
    #[error("{key} is {found}, expected {expected}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: f64,
    },
    /// No noise, or noise given in two ways.
    #[error("give either noise-multiplier or target-epsilon, the latter perhaps with participations")]
    Noise,
    /// A limit of something that is not there.
    #[error("max-examples-per-user goes with unit = \"user\"")]
    NoUsers,
}

impl PrivacyTerms {
    /// Checked terms.
    ///
    /// # Errors
    /// The first value outside its range.
    pub fn new(noise: NoiseLevel, max_grad_norm: f64, delta: f64) -> Result<Self, PrivacyTermsError> {
        let above_zero = |key, found: f64| {
            let ok = found.is_finite() && found > 0.0;
            ok.then_some(()).ok_or(PrivacyTermsError::Range { key, expected: "a number above 0", found })
        };
        above_zero("max-grad-norm", max_grad_norm)?;
        above_zero("target-delta", delta)?;
        if delta >= 1.0 {
            let expected = "a number below one over the examples of a client";
            return Err(PrivacyTermsError::Range { key: "target-delta", expected, found: delta });
        }
        match noise {
            NoiseLevel::Multiplier(multiplier) => above_zero("noise-multiplier", multiplier)?,
            NoiseLevel::Target { epsilon, participations } => {
                above_zero("target-epsilon", epsilon)?;
                above_zero("participations", participations.map_or(1.0, |rounds| rounds as f64))?;
            }
        }
        let (clipping, noise_kind) = (GradientClipping::Flat, NoiseKind::Grid);
        let (unit, max_examples_per_user) = (ProtectedUnit::Example, EXAMPLES_PER_USER);
        Ok(Self { noise, max_grad_norm, delta, clipping, noise_kind, unit, max_examples_per_user })
    }

    /// The same with another way to bound and to make noise.
    #[must_use]
    pub fn with(self, clipping: GradientClipping, noise_kind: NoiseKind) -> Self {
        Self { clipping, noise_kind, ..self }
    }

    /// The same with users as units, of whose examples a step uses at most `max_examples` that are drawn anew each time.
    /// The number bounds work and memory, not what is revealed: a user's mean gradient is clipped, whatever it is a mean of.
    ///
    /// # Errors
    /// No examples at all.
    pub fn protecting_users(self, max_examples: u32) -> Result<Self, PrivacyTermsError> {
        if max_examples == 0 {
            let (key, expected) = ("max-examples-per-user", "at least 1");
            return Err(PrivacyTermsError::Range { key, expected, found: 0.0 });
        }
        Ok(Self { unit: ProtectedUnit::User, max_examples_per_user: max_examples, ..self })
    }

    /// Who is protected.
    #[must_use]
    pub fn unit(&self) -> ProtectedUnit {
        self.unit
    }

    /// Examples that a step uses of a drawn user at most, at least 1; without meaning where examples are the units.
    #[must_use]
    pub fn max_examples_per_user(&self) -> u32 {
        self.max_examples_per_user
    }

    /// How gradients are bounded.
    #[must_use]
    pub fn clipping(&self) -> GradientClipping {
        self.clipping
    }

    /// How noise is made.
    #[must_use]
    pub fn noise_kind(&self) -> NoiseKind {
        self.noise_kind
    }

    /// How much noise.
    #[must_use]
    pub fn noise(&self) -> NoiseLevel {
        self.noise
    }

    /// Largest norm of one example's gradient, above 0.
    #[must_use]
    pub fn max_grad_norm(&self) -> f64 {
        self.max_grad_norm
    }

    /// The `delta` of every guarantee, below one over a client's number of examples.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.delta
    }
}

impl TryFrom<Keys> for PrivacyTerms {
    type Error = PrivacyTermsError;

    fn try_from(keys: Keys) -> Result<Self, PrivacyTermsError> {
        let Keys { max_grad_norm, target_delta, noise_multiplier, target_epsilon, participations, .. } = keys;
        let noise = match (noise_multiplier, target_epsilon, participations) {
            (Some(multiplier), None, None) => NoiseLevel::Multiplier(multiplier),
            (None, Some(epsilon), participations) => NoiseLevel::Target { epsilon, participations },
            _ => return Err(PrivacyTermsError::Noise),
        };
        let terms = Self::new(noise, max_grad_norm, target_delta)?.with(keys.clipping, keys.noise);
        match (keys.unit, keys.max_examples_per_user) {
            (ProtectedUnit::User, most) => terms.protecting_users(most.unwrap_or(EXAMPLES_PER_USER)),
            (ProtectedUnit::Example, None) => Ok(terms),
            (ProtectedUnit::Example, Some(_)) => Err(PrivacyTermsError::NoUsers),
        }
    }
}

impl From<PrivacyTerms> for Keys {
    fn from(terms: PrivacyTerms) -> Self {
        let (max_grad_norm, target_delta) = (terms.max_grad_norm, terms.delta);
        let (clipping, noise) = (terms.clipping, terms.noise_kind);
        let max_examples_per_user = (terms.unit == ProtectedUnit::User).then_some(terms.max_examples_per_user);
        let keys = Self {
            max_grad_norm,
            target_delta,
            clipping,
            noise,
            unit: terms.unit,
            max_examples_per_user,
            ..Self::default()
        };
        match terms.noise {
            NoiseLevel::Multiplier(multiplier) => Self { noise_multiplier: Some(multiplier), ..keys },
            NoiseLevel::Target { epsilon, participations } => {
                Self { target_epsilon: Some(epsilon), participations, ..keys }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<PrivacyTerms, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn terms_come_back_as_they_were_written() {
        for text in [
            r#"{"max-grad-norm":2.0,"target-delta":1e-6,"noise-multiplier":0.8}"#,
            r#"{"max-grad-norm":1.0,"target-delta":1e-7,"target-epsilon":6.0}"#,
            r#"{"max-grad-norm":1.0,"target-delta":1e-7,"target-epsilon":6.0,"participations":50}"#,
            r#"{"max-grad-norm":1.0,"target-delta":1e-7,"noise-multiplier":1.0,"clipping":"per-layer","noise":"fast"}"#,
            r#"{"max-grad-norm":1.0,"target-delta":1e-7,"noise-multiplier":1.0,"unit":"user","max-examples-per-user":4}"#,
        ] {
            assert_eq!(serde_json::to_string(&parsed(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn terms_without_noise_or_bound_are_refused() {
        for (text, said) in [
            (r#"{"max-grad-norm":1.0,"target-delta":1e-5}"#, "give either"),
            (r#"{"max-grad-norm":1.0,"target-delta":1e-5,"noise-multiplier":1.0,"target-epsilon":1.0}"#, "give either"),
            (r#"{"max-grad-norm":1.0,"target-delta":1e-5,"noise-multiplier":0.0}"#, "noise-multiplier is 0"),
            (r#"{"max-grad-norm":-1.0,"target-delta":1e-5,"noise-multiplier":1.0}"#, "max-grad-norm is -1"),
            (r#"{"max-grad-norm":1.0,"target-delta":1.0,"target-epsilon":1.0}"#, "target-delta is 1"),
            (r#"{"max-grad-norm":1.0,"target-delta":1e-5,"noise-multiplier":1.0,"sigma":1.0}"#, "unknown field"),
            (
                r#"{"max-grad-norm":1.0,"target-delta":1e-5,"noise-multiplier":1.0,"max-examples-per-user":4}"#,
                "goes with unit",
            ),
            (
                r#"{"max-grad-norm":1.0,"target-delta":1e-5,"noise-multiplier":1.0,"unit":"user","max-examples-per-user":0}"#,
                "max-examples-per-user is 0",
            ),
            (r#"{"max-grad-norm":1.0,"noise-multiplier":1.0}"#, "missing field"),
            (r#"{"target-delta":1e-5,"noise-multiplier":1.0}"#, "missing field"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
