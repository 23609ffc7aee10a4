//! Integer noise by the OpenDP library (opendp.org), on our grid: a second implementation of the same distribution, with
//! written proofs, whose privacy map says by itself what the noise is worth.
//!
//! **Its randomness.** OpenDP takes no generator from outside. Without its feature `use-openssl` it calls `thread_rng` of
//! `rand` 0.7 and its documentation calls that non-secure. What is behind it is `ChaCha20` under a key of the operating
//! system, with another key after 64 KiB and after a fork: as hard to predict as [`SecureRng`](super::SecureRng), but, unlike
//! that, with a state that stays in memory between two releases. OpenSSL would have the same, and would put a C library with
//! a build of its own into binaries that have none. So this mode does without and is in no default build; whoever prefers OpenSSL builds with
//! `--features opendp,opendp/use-openssl`.

use super::{NoiseRng, add::Grid};
use crate::PrivacyError;

#[cfg(not(feature = "opendp"))]
pub(super) fn add(_: &Grid, _: f64, _: &mut [&mut [f32]], _: &mut dyn NoiseRng) -> Result<(), PrivacyError> {
    // `GaussianNoise::new` has refused already.
    Err(PrivacyError::NoiseNotBuilt { mode: super::NoiseMode::OpenDp })
}

#[cfg(feature = "opendp")]
pub(super) use library::add;

#[cfg(feature = "opendp")]
mod library {
    use ::opendp::{
        core::Measurement,
        domains::{AtomDomain, VectorDomain},
        error::Error,
        measurements::make_gaussian,
        measures::ZeroConcentratedDivergence,
        metrics::L2Distance,
    };

    use super::{Grid, NoiseRng, PrivacyError};
    use crate::Origin;

    type Integers = VectorDomain<AtomDomain<i64>>;
    type Gaussian = Measurement<Integers, L2Distance<f64>, ZeroConcentratedDivergence, Vec<i64>>;

    /// Adds noise to all values at once, if OpenDP finds it enough for the zCDP of a noise multiplier: `1/2σ²`
    /// (Bun and Steinke, arXiv 1605.02065, proposition 6).
    pub(in super::super) fn add(
        grid: &Grid,
        noise_multiplier: f64,
        sums: &mut [&mut [f32]],
        rng: &mut dyn NoiseRng,
    ) -> Result<(), PrivacyError> {
        if rng.origin() != Origin::OperatingSystem {
            return Err(PrivacyError::NoSeed);
        }
        // Not used: a machine without randomness fails here, where OpenDP would panic.
        rng.key()?;
        let gaussian: Gaussian =
            make_gaussian(Integers::default(), L2Distance::default(), grid.scale as f64, None).map_err(refused)?;
        let (spent, accounted) = (gaussian.map(&grid.distance).map_err(refused)?, 0.5 / noise_multiplier.powi(2));
        if spent > accounted {
            let message = format!("the noise is good for {spent} of zCDP, and {accounted} was accounted");
            return Err(PrivacyError::OpenDp { message });
        }
        let steps = sums.iter().flat_map(|sum| sum.iter()).map(|value| grid.steps(*value) as i64).collect();
        let noised = gaussian.invoke(&steps).map_err(refused)?;
        let values = sums.iter_mut().flat_map(|sum| sum.iter_mut());
        values.zip(noised).for_each(|(value, steps)| *value = grid.value(steps as f64));
        Ok(())
    }

    fn refused(error: Error) -> PrivacyError {
        PrivacyError::OpenDp { message: error.to_string() }
    }
}
