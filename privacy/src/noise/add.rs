//! Adding noise to the blocks of a sum.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::{GaussianNoise, NoiseMode, NoiseReport, NoiseRng, discrete::DiscreteGaussian, opendp};
use crate::PrivacyError;

/// Values that share a random stream.
const BLOCK_VALUES: usize = 4096;
/// Bits between a standard deviation and the grid: as many as an f32 has, and enough that rounding costs nothing.
const GRID_BITS: i32 = 24;
/// Sums stop here, in steps of the grid: whole numbers up to twice this are exact in f64. Stopping moves no two sums
/// apart, so that it costs no privacy; clipped contributions never come near.
const LARGEST: f64 = (1_u64 << 52) as f64;

pub(super) fn add(
    noise: &GaussianNoise,
    sums: &mut [&mut [f32]],
    rng: &mut dyn NoiseRng,
) -> Result<NoiseReport, PrivacyError> {
    check_finite(sums)?;
    let values = sums.iter().map(|sum| sum.len()).sum();
    let mut report = NoiseReport {
        mode: noise.mode,
        origin: rng.origin(),
        values,
        standard_deviation: noise.noise_multiplier * (noise.bound.value() + noise.extra_sensitivity),
        grid_exponent: None,
        grid_sensitivity: 0.0,
    };
    match noise.mode {
        NoiseMode::Fast => {
            let deviation = report.standard_deviation;
            each_block(sums, rng.key()?, |block, stream| add_normal(block, deviation, stream));
        }
        NoiseMode::Grid | NoiseMode::OpenDp => {
            let grid = Grid::new(noise, values)?;
            report.standard_deviation = grid.step * grid.scale as f64;
            report.grid_exponent = Some(grid.exponent);
            report.grid_sensitivity = grid.sensitivity;
            if noise.mode == NoiseMode::OpenDp {
                opendp::add(&grid, noise.noise_multiplier, sums, rng)?;
            } else {
                each_block(sums, rng.key()?, |block, stream| grid.add(block, stream));
            }
        }
    }
    Ok(report)
}

fn check_finite(sums: &[&mut [f32]]) -> Result<(), PrivacyError> {
    for (tensor, sum) in sums.iter().enumerate() {
        if let Some(index) = sum.iter().position(|x| !x.is_finite()) {
            return Err(PrivacyError::NotFinite { tensor, index, found: sum[index] });
        }
    }
    Ok(())
}

/// Works on every block with a stream of its own: one key, and the block's number as `ChaCha20`'s nonce.
fn each_block(sums: &mut [&mut [f32]], key: [u8; 32], work: impl Fn(&mut [f32], &mut ChaCha20Rng) + Sync) {
    let blocks: Vec<_> = sums.iter_mut().flat_map(|sum| sum.chunks_mut(BLOCK_VALUES)).enumerate().collect();
    blocks.into_par_iter().for_each(|(number, block)| {
        let mut stream = ChaCha20Rng::from_seed(key);
        stream.set_stream(number as u64);
        work(block, &mut stream);
    });
}

fn add_normal(block: &mut [f32], deviation: f64, stream: &mut ChaCha20Rng) {
    for x in block {
        let normal: f64 = StandardNormal.sample(stream);
        *x = (f64::from(*x) + deviation * normal) as f32;
    }
}

/// The multiples of `2^exponent`, and the noise on them.
pub(super) struct Grid {
    exponent: i32,
    /// `2^exponent`.
    step: f64,
    /// `√d` steps.
    sensitivity: f64,
    /// All by which neighbouring sums may differ, rounding included, in steps.
    #[cfg_attr(not(feature = "opendp"), expect(dead_code, reason = "OpenDP works out by itself what noise is worth"))]
    pub(super) distance: f64,
    /// Standard deviation of the noise in steps.
    pub(super) scale: u64,
    noise: DiscreteGaussian,
}

impl Grid {
    /// The grid depends on public numbers only: `σ`, `C` and the number of values.
    fn new(noise: &GaussianNoise, values: usize) -> Result<Self, PrivacyError> {
        let exponent = floor_log2(noise.noise_multiplier * noise.bound.value()) - GRID_BITS;
        let step = power_of_two(exponent);
        let sensitivity = (values as f64).sqrt() * step;
        let whole = noise.bound.value() + noise.extra_sensitivity + sensitivity;
        // Rounding must not make the noise smaller than it is accounted for; a whole step more outweighs what a sum over the
        // grid differs from an integral.
        let distance = whole / step;
        let steps = noise.noise_multiplier * distance * (1.0 + 16.0 * f64::EPSILON);
        let scale = (steps.floor() + 2.0) as u64;
        let noise = DiscreteGaussian::new(scale).ok_or(PrivacyError::Parameter {
            name: "noise-multiplier",
            expected: "a number that times the square root of the number of values is below 2^30",
            found: noise.noise_multiplier,
        })?;
        Ok(Self { exponent, step, sensitivity, distance, scale, noise })
    }

    fn add(&self, block: &mut [f32], stream: &mut ChaCha20Rng) {
        for x in block {
            *x = self.value(self.steps(*x) + self.noise.sample(stream) as f64);
        }
    }

    /// A value in whole steps.
    pub(super) fn steps(&self, value: f32) -> f64 {
        (f64::from(value) / self.step).round_ties_even().clamp(-LARGEST, LARGEST)
    }

    /// Rounding the result to f32 comes after the noise, and leads from multiples of the grid to multiples of it.
    pub(super) fn value(&self, steps: f64) -> f32 {
        (steps * self.step) as f32
    }
}

/// `⌊log₂ x⌋` of a positive normal number, from its bits: logarithms may be rounded across a whole number.
fn floor_log2(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// `2^exponent`, exactly, for exponents of normal numbers.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
