//! Statistical tests have fixed seeds, so that they cannot fail by chance; bounds are stated in standard errors.

mod distribution;
#[cfg(feature = "opendp")]
mod opendp;

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;

fn noise(mode: NoiseMode, sigma: f64, bound: f64) -> GaussianNoise {
    GaussianNoise::new(mode, sigma, ClipBound::new(bound).expect("a bound")).expect("valid noise")
}

fn simulated(seed: u8) -> SimulatedRng {
    SimulatedRng::from_seed([seed; 32])
}

/// Root mean square, as noise has no other mean than 0.
fn deviation(values: &[f32]) -> f64 {
    (values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn an_empty_batch_gets_noise_of_the_promised_size() {
    for mode in [NoiseMode::Grid, NoiseMode::Fast] {
        let mut sums = vec![0.0_f32; 1_000_000];
        let report = noise(mode, 1.5, 0.8).add(&mut [&mut sums], &mut simulated(1)).expect("noise");
        // A standard error is 0.07 %.
        assert!((deviation(&sums) / 1.2 - 1.0).abs() < 0.005, "{mode:?}: {}", deviation(&sums));
        assert!((deviation(&sums) / report.standard_deviation - 1.0).abs() < 0.004);
        let mean = sums.iter().map(|x| f64::from(*x)).sum::<f64>() / 1e6;
        assert!(mean.abs() < 5.0 * 1.2 / 1000.0, "{mode:?}: {mean}");
    }
}

#[test]
fn neighbouring_values_and_blocks_are_independent() {
    for mode in [NoiseMode::Grid, NoiseMode::Fast] {
        let mut sums = vec![0.0_f32; 400_000];
        noise(mode, 1.0, 1.0).add(&mut [&mut sums], &mut simulated(2)).expect("noise");
        for lag in [1, 2, 64, 4096, 8192] {
            let pairs = sums.iter().zip(&sums[lag..]);
            let product: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let correlation = product / sums.len() as f64;
            assert!(correlation.abs() < 5.0 / (sums.len() as f64).sqrt(), "{mode:?} lag {lag}: {correlation}");
        }
    }
}

/// Whether all values are multiples of `2^exponent`.
fn on_grid(values: &[f32], exponent: i32) -> bool {
    values.iter().all(|x| (f64::from(*x) / 2.0_f64.powi(exponent)).fract() == 0.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn grid_noise_leaves_only_multiples_of_the_grid(
        mut sums in prop::collection::vec(-1e6_f32..1e6, 1..200),
        sigma in 0.01_f64..100.0,
        exponent in -12.0_f64..12.0,
        seed: [u8; 32],
    ) {
        let bound = 10_f64.powf(exponent);
        // A neighbour differs by one unit of norm at most C; both must be able to give the same outputs.
        let mut neighbour = sums.clone();
        neighbour[0] += bound as f32;
        for values in [&mut sums, &mut neighbour] {
            let release = noise(NoiseMode::Grid, sigma, bound);
            let report = release.add(&mut [values], &mut SimulatedRng::from_seed(seed)).expect("noise");
            let k = report.grid_exponent.expect("a grid");
            prop_assert_eq!(k, (sigma * bound).log2().floor() as i32 - 24);
            prop_assert!(on_grid(values, k));
        }
    }

    #[test]
    fn the_noise_is_as_large_as_the_sensitivity_with_rounding_asks(
        values in 1_usize..3000, sigma in 0.01_f64..50.0, bound in 1e-3_f64..1e3, share in 0.0_f64..0.1,
    ) {
        let release = noise(NoiseMode::Grid, sigma, bound).with_extra_sensitivity(share * bound).expect("in range");
        let report = release.add(&mut [&mut vec![0.0; values]], &mut simulated(3)).expect("noise");
        let rounding = (values as f64).sqrt() * 2.0_f64.powi(report.grid_exponent.expect("a grid"));
        prop_assert!((report.grid_sensitivity / rounding - 1.0).abs() < 1e-12);
        let sensitivity = bound * (1.0 + CLIP_SLACK + share) + rounding;
        prop_assert!(report.standard_deviation >= sigma * sensitivity * (1.0 - 1e-15));
        prop_assert!(report.standard_deviation <= sigma * sensitivity * (1.0 + 1e-6));
    }
}

#[test]
fn the_sum_is_still_there_under_the_noise() {
    for mode in [NoiseMode::Grid, NoiseMode::Fast] {
        let mut sums = vec![1234.5_f32; 10_000];
        noise(mode, 1.0, 1.0).add(&mut [&mut sums], &mut simulated(4)).expect("noise");
        let mean = sums.iter().map(|x| f64::from(*x)).sum::<f64>() / 1e4;
        assert!((mean - 1234.5).abs() < 0.05, "{mean}");
    }
}

#[test]
fn sums_beyond_the_grid_stop_at_its_end() {
    let mut sums = [f32::MAX, f32::MIN];
    noise(NoiseMode::Grid, 1.0, 1.0).add(&mut [&mut sums], &mut simulated(5)).expect("noise");
    let end = 2.0_f32.powi(52 - 24);
    assert!((sums[0] / end - 1.0).abs() < 1e-6 && (sums[1] / end + 1.0).abs() < 1e-6, "{sums:?}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let run = |mode, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let (mut first, mut second) = (vec![0.0_f32; 30_000], vec![1.0_f32; 5000]);
        pool.install(|| noise(mode, 1.0, 1.0).add(&mut [&mut first, &mut second], &mut simulated(6)).expect("noise"));
        (first, second)
    };
    for mode in [NoiseMode::Grid, NoiseMode::Fast] {
        let alone = run(mode, 1);
        assert!([2, 3, 8].iter().all(|threads| run(mode, *threads) == alone));
    }
}

#[test]
fn no_noise_is_used_twice() {
    let mut rng = SecureRng::from_os().expect("randomness");
    assert_eq!(rng.origin(), Origin::OperatingSystem);
    let mut seen = std::collections::BTreeSet::new();
    for restart in 0..1000 {
        // Steps of one process and starts of new ones.
        if restart % 2 == 0 {
            rng = SecureRng::from_os().expect("randomness");
        }
        let mut sums = [0.0_f32; 2];
        noise(NoiseMode::Grid, 1.0, 1.0).add(&mut [&mut sums], &mut rng).expect("noise");
        assert!(seen.insert(sums.map(f32::to_bits)), "the same noise in start {restart}");
    }
}

#[test]
fn a_seed_repeats_itself_and_is_marked() {
    let run = |rng: &mut SimulatedRng| {
        let mut sums = vec![0.0_f32; 8];
        let report = noise(NoiseMode::Grid, 1.0, 1.0).add(&mut [&mut sums], rng).expect("noise");
        assert_eq!(report.origin, Origin::Simulated);
        sums
    };
    let (mut first, mut again) = (simulated(7), simulated(7));
    let values = run(&mut first);
    assert_eq!(values, run(&mut again));
    assert_ne!(values, run(&mut again), "the next release has other noise");
}

#[test]
fn nothing_of_a_generator_can_be_read_in_its_debug_form() {
    assert_eq!(format!("{:?}", simulated(8)), "SimulatedRng");
    assert_eq!(format!("{:?}", SecureRng::from_os().expect("randomness")), "SecureRng");
}

#[test]
fn a_sum_that_is_not_finite_is_refused_and_left_alone() {
    for mode in [NoiseMode::Grid, NoiseMode::Fast] {
        let (mut fine, mut broken) = (vec![1.0_f32; 3], [0.0, f32::NAN]);
        let error = noise(mode, 1.0, 1.0).add(&mut [&mut fine, &mut broken], &mut simulated(9)).expect_err("NaN");
        assert!(matches!(error, PrivacyError::NotFinite { tensor: 1, index: 1, .. }), "{error}");
        assert_eq!(fine, [1.0; 3]);
    }
}

#[test]
fn nothing_to_release_is_no_error() {
    for mode in [NoiseMode::Grid, NoiseMode::Fast] {
        assert_eq!(noise(mode, 1.0, 1.0).add(&mut [], &mut simulated(10)).expect("nothing").values, 0);
        assert_eq!(noise(mode, 1.0, 1.0).add(&mut [&mut []], &mut simulated(10)).expect("nothing").values, 0);
    }
}

#[test]
fn noise_that_protects_nobody_or_does_not_fit_is_refused() {
    let new = |sigma, bound| GaussianNoise::new(NoiseMode::Grid, sigma, ClipBound::new(bound).expect("a bound"));
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        new(sigma, 1.0).expect_err("no noise");
    }
    new(1.0, 1e-31).expect_err("below f32");
    new(1.0, 1e31).expect_err("beyond f32");
    new(f64::MAX, f64::MAX).expect_err("infinite");
    for extra in [-1.0, f64::NAN, 1.5] {
        new(1.0, 1.0).expect("valid").with_extra_sensitivity(extra).expect_err("out of range");
    }
    // 2³¹ steps of the grid are too many for the sampler: σ√d is 2³¹.
    let error = new(2.0_f64.powi(31), 1.0).expect("valid").add(&mut [&mut [0.0]], &mut simulated(11));
    assert!(error.expect_err("too large").to_string().contains("below 2^30"));
}

#[test]
fn modes_are_named_in_ledgers() {
    let named = [NoiseMode::Grid, NoiseMode::Fast, NoiseMode::OpenDp].map(|mode| serde_json::to_string(&mode).unwrap());
    assert_eq!(named, ["\"grid\"", "\"fast\"", "\"opendp\""]);
}

#[test]
#[cfg(not(feature = "opendp"))]
fn a_build_without_opendp_says_so_before_anything_is_charged() {
    let error =
        GaussianNoise::new(NoiseMode::OpenDp, 1.0, ClipBound::new(1.0).expect("a bound")).expect_err("not built");
    assert!(matches!(error, PrivacyError::NoiseNotBuilt { mode: NoiseMode::OpenDp }), "{error}");
}

#[test]
fn the_smallest_and_the_largest_noise_fit_f32() {
    for bound in [2.0_f64.powi(-100), 2.0_f64.powi(100)] {
        let mut sums = [0.0_f32; 1000];
        let report = noise(NoiseMode::Grid, 1.0, bound).add(&mut [&mut sums], &mut simulated(12)).expect("noise");
        assert!(on_grid(&sums, report.grid_exponent.expect("a grid")));
        assert!((deviation(&sums) / bound - 1.0).abs() < 0.15);
    }
}

/// How many values a second one core makes. The figure is printed, not judged: machines differ.
#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture how_fast"]
#[expect(clippy::disallowed_methods, reason = "measures")]
fn how_fast_noise_is() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    for (mode, values) in [(NoiseMode::Grid, 4_000_000), (NoiseMode::Fast, 16_000_000)] {
        let mut sums = vec![0.0_f32; values];
        let best = (0..3).map(|_| {
            let start = std::time::Instant::now();
            pool.install(|| noise(mode, 1.0, 1.0).add(&mut [&mut sums], &mut simulated(13)).expect("noise"));
            start.elapsed().as_secs_f64()
        });
        let best = best.fold(f64::INFINITY, f64::min);
        println!("{mode:?}: {:.1} M values/s, {:.0} ns each", values as f64 / best / 1e6, best / values as f64 * 1e9);
    }
}

#[test]
fn streams_of_one_key_are_different() {
    let first = |number| {
        let mut stream = ChaCha20Rng::from_seed([0; 32]);
        stream.set_stream(number);
        stream.next_u64()
    };
    let words: std::collections::BTreeSet<u64> = (0..1000).map(first).collect();
    assert_eq!(words.len(), 1000);
}
