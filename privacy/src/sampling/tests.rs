use super::*;
use crate::{SecureRng, SimulatedRng, scripted::Words};

fn sampler(units: usize, rate: f64) -> PoissonSampler {
    PoissonSampler::new(units, rate).expect("a valid rate")
}

#[test]
fn sizes_have_the_binomial_mean_and_variance_and_are_not_cut() {
    let (steps, units, rate) = (20_000_u32, 500_usize, 0.02);
    let mut rng = SimulatedRng::from_seed([1; 32]);
    let sizes: Vec<f64> =
        (0..steps).map(|_| sampler(units, rate).sample(&mut rng).expect("randomness").len() as f64).collect();
    let mean = sizes.iter().sum::<f64>() / f64::from(steps);
    let variance = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / f64::from(steps);
    // Mean 10, variance 9.8; five standard errors are 0.11 and 0.5.
    assert!((mean - 10.0).abs() < 0.11, "{mean}");
    assert!((variance - 9.8).abs() < 0.5, "{variance}");
    // Twice the expected size has probability 0.0027: 54 of 20 000.
    let large = sizes.iter().filter(|size| **size >= 20.0).count();
    assert!((20..120).contains(&large), "{large}");
}

#[test]
fn every_unit_is_as_likely_as_any_other_and_no_two_go_together() {
    let (steps, units, rate) = (20_000_usize, 40, 0.3);
    let mut rng = SimulatedRng::from_seed([2; 32]);
    let (mut single, mut neighbours) = (vec![0_u32; units], 0_u32);
    for _ in 0..steps {
        let sample = sampler(units, rate).sample(&mut rng).expect("randomness");
        assert!(sample.is_sorted_by(|a, b| a < b) && sample.iter().all(|index| *index < units));
        for index in &sample {
            single[*index] += 1;
        }
        neighbours += sample.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count() as u32;
    }
    // 6000 ± 65 each: six standard errors. 39 pairs of probability 0.09: 70 200, ± 6 of 300.
    assert!(single.iter().all(|count| (5610..=6390).contains(count)), "{single:?}");
    assert!((68_400..72_000).contains(&neighbours), "{neighbours}");
}

#[test]
fn the_edges_are_nobody_and_everybody() {
    let mut rng = SimulatedRng::from_seed([3; 32]);
    assert!(sampler(1000, 0.0).sample(&mut rng).expect("randomness").is_empty());
    assert_eq!(sampler(1000, 1.0).sample(&mut rng).expect("randomness"), (0..1000).collect::<Vec<_>>());
    assert!(sampler(0, 0.5).sample(&mut rng).expect("randomness").is_empty());
    assert!(sampler(1000, f64::MIN_POSITIVE).sample(&mut rng).expect("randomness").is_empty());
    assert_eq!(sampler(1000, 0.25).expected_units().to_bits(), 250.0_f64.to_bits());
}

#[test]
fn a_first_batch_may_be_empty() {
    let mut rng = SimulatedRng::from_seed([4; 32]);
    // Empty with probability 0.37.
    let empty = (0..1000).filter(|_| sampler(100, 0.01).sample(&mut rng).expect("randomness").is_empty()).count();
    assert!((290..440).contains(&empty), "{empty}");
}

#[test]
fn rates_outside_their_range_are_refused() {
    for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let error = PoissonSampler::new(10, wrong).expect_err("no probability");
        assert_eq!(error.to_string(), format!("sample-rate is {wrong}, expected a number from 0 to 1"));
    }
}

#[test]
fn thresholds_are_exact() {
    assert_eq!(threshold(0.5), [1 << 63, 0]);
    assert_eq!(threshold(2.0_f64.powi(-64)), [1, 0]);
    assert_eq!(threshold(2.0_f64.powi(-65)), [0, 1 << 63]);
    assert_eq!(threshold(3.0 * 2.0_f64.powi(-75)), [0, 3 << 53]);
    assert_eq!(threshold(2.0_f64.powi(-128)), [0, 1]);
    // 1/3 is 0x15555555555555 · 2^-54 in f64.
    assert_eq!(threshold(1.0 / 3.0), [0x0015_5555_5555_5555 << 10, 0]);
    assert_eq!(threshold(1.0 - 2.0_f64.powi(-53)), [u64::MAX << 11, 0]);
}

#[test]
fn a_tie_of_the_first_word_is_decided_by_the_second() {
    let chosen = |words: &[u64]| chosen([5, 7], &mut Words(words.to_vec()));
    assert!(chosen(&[4]) && !chosen(&[6]));
    assert!(chosen(&[5, 6]) && !chosen(&[5, 7]) && !chosen(&[5, 8]));
}

#[test]
fn the_same_generator_gives_the_same_samples_and_the_systems_never_does() {
    let draw = |rng: &mut dyn NoiseRng| sampler(10_000, 0.1).sample(rng).expect("randomness");
    let (mut first, mut again) = (SimulatedRng::from_seed([5; 32]), SimulatedRng::from_seed([5; 32]));
    let sample = draw(&mut first);
    assert_eq!(sample, draw(&mut again));
    assert_ne!(sample, draw(&mut again), "the next step's sample is another one");
    let mut secure = SecureRng::from_os().expect("randomness");
    assert_ne!(draw(&mut secure), draw(&mut secure));
}
