//! OpenDP as a mode of noise, and as an oracle for our own.
//!
//! It has no seed, so that these tests see other numbers each time. Their limits are those that the right distribution
//! passes once in a billion runs: six standard deviations.

use ::opendp::{
    domains::AtomDomain, measurements::make_gaussian, measures::ZeroConcentratedDivergence, metrics::L2Distance,
};

use super::*;
use crate::noise::discrete::DiscreteGaussian;

/// Integers of OpenDP's sampler.
fn theirs(scale: u64, draws: usize) -> Vec<i64> {
    let domain = ::opendp::domains::VectorDomain::new(AtomDomain::<i64>::default());
    let gaussian =
        make_gaussian::<_, _, ZeroConcentratedDivergence>(domain, L2Distance::<f64>::default(), scale as f64, None);
    gaussian.expect("a scale").invoke(&vec![0; draws]).expect("draws")
}

fn ours(scale: u64, draws: usize, seed: u8) -> Vec<i64> {
    let (mut rng, gaussian) = (ChaCha20Rng::from_seed([seed; 32]), DiscreteGaussian::new(scale).expect("in range"));
    (0..draws).map(|_| gaussian.sample(&mut rng)).collect()
}

/// χ² of two samples of one size against the hypothesis that they have one distribution, with its degrees of freedom:
/// the sum of `(a - b)² / (a + b)` over values that came up 20 times and more, all others taken together.
fn two_samples(first: &[i64], second: &[i64]) -> (f64, f64) {
    let mut counts: std::collections::BTreeMap<i64, [f64; 2]> = std::collections::BTreeMap::new();
    for (side, sample) in [first, second].into_iter().enumerate() {
        for x in sample {
            counts.entry(*x).or_default()[side] += 1.0;
        }
    }
    let (often, rare): (Vec<_>, Vec<_>) = counts.into_values().partition(|[a, b]| a + b >= 20.0);
    let rest = rare.into_iter().fold([0.0, 0.0], |sum, cell| [sum[0] + cell[0], sum[1] + cell[1]]);
    let cells = often.into_iter().chain((rest[0] + rest[1] >= 20.0).then_some(rest)).collect::<Vec<_>>();
    (cells.iter().map(|[a, b]| (a - b).powi(2) / (a + b)).sum(), cells.len() as f64 - 1.0)
}

#[test]
fn small_scales_are_distributed_as_those_of_opendp() {
    const DRAWS: usize = 100_000;
    for (scale, seed) in [(1, 20), (3, 21), (10, 22), (40, 23)] {
        let (statistic, degrees) = two_samples(&ours(scale, DRAWS, seed), &theirs(scale, DRAWS));
        // Wilson and Hilferty's approximation at six standard deviations.
        let share = 2.0 / (9.0 * degrees);
        let limit = degrees * (1.0 - share + 6.0 * share.sqrt()).powi(3);
        assert!(statistic < limit, "scale {scale}: χ² {statistic:.1} of {degrees} degrees");
    }
    // The test tells scales apart that differ by a tenth: that adds n·(0.1)² = 900 to a χ² of some 200 degrees, and its
    // standard deviation is then 63.
    let (statistic, degrees) = two_samples(&ours(30, DRAWS, 24), &theirs(33, DRAWS));
    assert!(statistic > degrees + 450.0, "χ² {statistic:.1} of {degrees} degrees");
}

#[test]
fn the_grids_scale_is_distributed_as_that_of_opendp() {
    const DRAWS: usize = 50_000;
    let scale = (1 << 24) + 12_345;
    let (mut first, mut second) = (ours(scale, DRAWS, 25), theirs(scale, DRAWS));
    first.sort_unstable();
    second.sort_unstable();
    let gap = |(rank, x): (usize, &i64)| second.partition_point(|other| other < x).abs_diff(rank);
    let distance = first.iter().enumerate().map(gap).max().expect("draws") as f64 / DRAWS as f64;
    // Smirnov: P[D > t·sqrt(2/n)] is about 2·exp(-2t²), 1e-9 at t = 3.27.
    assert!(distance < 3.27 * (2.0 / DRAWS as f64).sqrt(), "{distance}");
}

#[test]
fn noise_by_opendp_lies_on_the_grid_and_is_as_large_as_ours() {
    let release = |mode| {
        let mut sums = vec![1.0_f32; 20_000];
        let mut rng = SecureRng::from_os().expect("randomness");
        let report = noise(mode, 1.5, 0.8).add(&mut [&mut sums], &mut rng).expect("noise");
        (sums, report)
    };
    let ((sums, report), (_, grid)) = (release(NoiseMode::OpenDp), release(NoiseMode::Grid));
    assert_eq!(report, NoiseReport { mode: NoiseMode::OpenDp, ..grid });
    assert!(on_grid(&sums, report.grid_exponent.expect("a grid")));
    let noise: Vec<f32> = sums.iter().map(|x| x - 1.0).collect();
    // The standard error of a deviation of n values is 1/sqrt(2n).
    assert!((deviation(&noise) / report.standard_deviation - 1.0).abs() < 6.0 / 40_000_f64.sqrt());
    let mean = noise.iter().map(|x| f64::from(*x)).sum::<f64>() / 20_000.0;
    assert!(mean.abs() < 6.0 * 1.2 / 20_000_f64.sqrt(), "{mean}");
}

#[test]
fn opendp_finds_the_accounted_noise_enough() {
    // `add` fails where its privacy map asks for more.
    for (sigma, bound, values) in [(0.3, 1e-3, 1), (1.0, 1.0, 100), (4.0, 0.1, 3000), (50.0, 7.0, 10)] {
        let release = noise(NoiseMode::OpenDp, sigma, bound).with_extra_sensitivity(0.3 * bound).expect("in range");
        let mut rng = SecureRng::from_os().expect("randomness");
        release.add(&mut [&mut vec![0.0; values]], &mut rng).expect("enough noise");
    }
}

#[test]
fn opendp_takes_no_seed_and_leaves_the_sum_alone() {
    let mut sums = [1.0_f32; 3];
    let error = noise(NoiseMode::OpenDp, 1.0, 1.0).add(&mut [&mut sums], &mut simulated(26)).expect_err("a seed");
    assert!(matches!(error, PrivacyError::NoSeed), "{error}");
    assert_eq!(sums.map(f32::to_bits), [1.0_f32; 3].map(f32::to_bits));
}
