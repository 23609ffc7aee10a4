//! What can be wrong with a privacy parameter. All of it stops training: privacy fails closed.

use crate::NoiseMode;

/// Why something private cannot be done or computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivacyError {
    /// A parameter outside its range.
    #[error("{name} is {found}, expected {expected}")]
    Parameter {
        /// The parameter, as users write it.
        name: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: f64,
    },
    /// The operating system gives no random numbers, so there is nothing to make noise of.
    #[error("the operating system gives no random numbers; noise from anything else would protect nobody")]
    NoRandomness(#[source] getrandom::Error),
    /// A sum that cannot be released: clipped contributions are finite, so this is an error of the engine.
    #[error("value {index} of tensor {tensor} in a sum of clipped contributions is {found}, expected a finite number")]
    NotFinite {
        /// Which slice.
        tensor: usize,
        /// Where in it.
        index: usize,
        /// NaN or an infinity.
        found: f32,
    },
    /// Noise of a kind that this build cannot make.
    #[error("noise of mode {mode:?} is not in this build, it takes the cargo feature opendp")]
    NoiseNotBuilt {
        /// The kind.
        mode: NoiseMode,
    },
    /// OpenDP draws from the operating system whatever it is told, so that what it makes is not what a seed promises.
    #[error("noise by OpenDP has no seed: it cannot be simulated")]
    NoSeed,
    /// OpenDP refused, or its proof asks for more noise than was accounted.
    #[error("OpenDP: {message}")]
    OpenDp {
        /// What it said.
        message: String,
    },
    /// As many bounds as layers are needed.
    #[error("{found} layers for {expected} clip bounds; give every layer its bound")]
    Layers {
        /// Number of bounds.
        expected: usize,
        /// Number of layers.
        found: usize,
    },
    /// No accountant of this name.
    #[error("accountant is {found:?}, expected one of {choices}")]
    UnknownAccountant {
        /// The name.
        found: String,
        /// The names there are.
        choices: &'static str,
    },
    /// A target that no value of the parameter can meet.
    #[error("epsilon {epsilon} at delta {delta} is out of reach: {name} {limit} still gives epsilon {found}")]
    OutOfReach {
        /// The parameter that was searched.
        name: &'static str,
        /// The last value that was tried.
        limit: f64,
        /// The target.
        epsilon: f64,
        /// Its `delta`.
        delta: f64,
        /// What the last value gives.
        found: f64,
    },
}

/// Fails unless `0 < delta < 1`; at 0 no amount of Gaussian noise is enough, at 1 none is needed.
pub(crate) fn check_delta(delta: f64) -> Result<(), PrivacyError> {
    if delta > 0.0 && delta < 1.0 {
        return Ok(());
    }
    Err(PrivacyError::Parameter { name: "delta", expected: "a number between 0 and 1, both excluded", found: delta })
}

/// Fails unless `epsilon` is finite and at least 0.
pub(crate) fn check_epsilon(epsilon: f64) -> Result<(), PrivacyError> {
    if epsilon >= 0.0 && epsilon.is_finite() {
        return Ok(());
    }
    Err(PrivacyError::Parameter { name: "epsilon", expected: "a finite number of at least 0", found: epsilon })
}
