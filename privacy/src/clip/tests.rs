use proptest::prelude::*;

use super::*;
use crate::{NoiseMode, SimulatedRng};

fn bound(value: f64) -> ClipBound {
    ClipBound::new(value).expect("a valid bound")
}

fn norm(parts: &[Vec<f32>]) -> f64 {
    parts.iter().flatten().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

fn clip_parts(parts: &mut [Vec<f32>], to: f64) -> Clipped {
    let mut slices: Vec<&mut [f32]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
    clip(&mut slices, bound(to))
}

fn tensors() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let value =
        prop_oneof![-1e3_f32..1e3, -1e-6_f32..1e-6, Just(0.0), Just(f32::MIN_POSITIVE), Just(3e38), Just(-3e38)];
    prop::collection::vec(prop::collection::vec(value, 0..70), 0..6)
}

proptest! {
    #[test]
    fn no_vector_is_longer_than_its_bound(mut parts in tensors(), exponent in -12.0_f64..12.0) {
        let to = 10_f64.powf(exponent);
        let before = norm(&parts);
        let clipped = clip_parts(&mut parts, to);
        prop_assert!((clipped.norm - before).abs() <= 1e-12 * before);
        prop_assert!(norm(&parts) <= to * (1.0 + CLIP_SLACK), "{} > {to}", norm(&parts));
        prop_assert_eq!(clipped.outcome == Outcome::Scaled, clipped.norm > to);
    }

    #[test]
    fn all_slices_are_one_vector_scaled_by_one_factor(parts in tensors(), to in 0.01_f64..1e4) {
        let scale = if norm(&parts) > to { to / norm(&parts) } else { 1.0 };
        let mut clipped = parts.clone();
        clip_parts(&mut clipped, to);
        for (after, before) in clipped.iter().flatten().zip(parts.iter().flatten()) {
            let expected = f64::from(*before) * scale;
            // A step of f32 for the factor and half of one for the product; more where they leave the normal range.
            let tolerance = expected.abs() * 2.5e-7 + f64::from(before.abs()) * 1.5e-45 + 1e-44;
            prop_assert!((f64::from(*after) - expected).abs() <= tolerance, "{after} for {expected}");
        }
        if norm(&parts) <= to {
            prop_assert_eq!(clipped, parts);
        }
    }

    #[test]
    fn factors_are_what_clipping_multiplies_by(mut parts in tensors(), to in 0.01_f64..1e4) {
        let before = parts.clone();
        let squared = norm(&parts).powi(2);
        let factor = factor(squared, bound(to)).expect("a finite norm");
        clip_parts(&mut parts, to);
        for (after, before) in parts.iter().flatten().zip(before.iter().flatten()) {
            let expected = before * factor;
            prop_assert!((after - expected).abs() <= expected.abs() * 2.5e-7 + 1e-44);
        }
    }

    #[test]
    fn the_layers_keep_their_bounds_and_their_total(
        mut layers in prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, 1..40), 1..6),
        exponents in prop::collection::vec(-3.0_f64..3.0, 6),
    ) {
        let bounds: Vec<_> = exponents.iter().take(layers.len()).map(|x| bound(10_f64.powf(*x))).collect();
        let per_layer = LayerBounds::new(bounds.clone()).expect("valid bounds");
        let mut slices: Vec<&mut [f32]> = layers.iter_mut().map(Vec::as_mut_slice).collect();
        per_layer.clip(&mut slices).expect("as many layers as bounds");
        for (layer, bound) in layers.iter().zip(&bounds) {
            prop_assert!(norm(std::slice::from_ref(layer)) <= bound.value() * (1.0 + CLIP_SLACK));
        }
        prop_assert!(norm(&layers) <= per_layer.total().value() * (1.0 + CLIP_SLACK));
    }
}

#[test]
fn a_zero_gradient_stays_and_is_not_divided_by_its_norm() {
    let mut parts = vec![vec![0.0; 3], vec![0.0]];
    assert_eq!(clip_parts(&mut parts, 1.0), Clipped { norm: 0.0, outcome: Outcome::Kept });
    assert_eq!(parts, [vec![0.0; 3], vec![0.0]]);
    assert_eq!(factor(0.0, bound(1e-30)), Some(1.0));
}

#[test]
fn one_value_that_is_not_finite_silences_the_whole_unit() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 8, 19] {
            let mut parts = vec![vec![1.0; 5], vec![2.0; 20]];
            parts[1][place] = bad;
            let clipped = clip_parts(&mut parts, 1.0);
            assert_eq!(clipped.outcome, Outcome::Dropped);
            assert!(!clipped.norm.is_finite());
            assert_eq!(parts, [vec![0.0; 5], vec![0.0; 20]]);
        }
    }
}

#[test]
fn the_largest_floats_have_a_norm() {
    let mut parts = vec![vec![f32::MAX; 1000]];
    let clipped = clip_parts(&mut parts, 2.0);
    assert_eq!(clipped.outcome, Outcome::Scaled);
    assert!(norm(&parts) <= 2.0 * (1.0 + CLIP_SLACK) && norm(&parts) > 1.9);
}

#[test]
fn factors_that_f32_holds_badly_are_rounded_down() {
    // 2/norm lies between two of the smallest f32 numbers; the nearest one would make the vector twice as long.
    let mut parts = vec![vec![3e38_f32; 10]];
    clip_parts(&mut parts, 2e-6);
    assert!(norm(&parts) <= 2e-6, "{}", norm(&parts));
}

#[test]
fn a_vector_exactly_at_its_bound_is_kept() {
    let mut parts = vec![vec![3.0], vec![4.0]];
    assert_eq!(clip_parts(&mut parts, 5.0), Clipped { norm: 5.0, outcome: Outcome::Kept });
    assert_eq!(parts, [vec![3.0], vec![4.0]]);
}

#[test]
fn a_batch_counts_who_was_scaled_and_who_has_no_norm() {
    let batch = factors(&[0.0_f32, 1.0, 4.0, 16.0, f32::NAN, f32::INFINITY, -1e-9], bound(1.0));
    assert_eq!(batch.factors, [1.0, 1.0, 0.5, 0.25, 0.0, 0.0, 0.0]);
    assert_eq!((batch.clipped, batch.dropped), (2, 3));
    assert_eq!(factors(&[4.0_f64], bound(1.0)).factors, [0.5]);
    assert_eq!(factor(f64::NAN, bound(1.0)), None);
}

#[test]
fn bounds_are_positive_and_finite_also_when_read_from_a_file() {
    for wrong in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = ClipBound::new(wrong).expect_err("not a bound");
        assert!(error.to_string().starts_with("clip-bound is "), "{error}");
    }
    assert_eq!(serde_json::from_str::<ClipBound>("0.5").expect("a bound"), bound(0.5));
    serde_json::from_str::<ClipBound>("-0.5").expect_err("not a bound");
    assert_eq!(serde_json::to_string(&bound(0.1)).expect("a number"), "0.1");
}

#[test]
fn layers_are_clipped_apart_and_dropped_together() {
    let per_layer = LayerBounds::new(vec![bound(3.0), bound(4.0)]).expect("valid bounds");
    assert!((per_layer.total().value() - 5.0).abs() < 1e-15);
    let (mut first, mut second) = (vec![24.0_f32], vec![1.0_f32, 1.0]);
    let outcomes = per_layer.clip(&mut [&mut first, &mut second]).expect("two layers");
    assert_eq!(outcomes.map_outcomes(), [Outcome::Scaled, Outcome::Kept]);
    assert_eq!((&first, &second), (&vec![3.0], &vec![1.0, 1.0]));
    first[0] = f32::NAN;
    let outcomes = per_layer.clip(&mut [&mut first, &mut second]).expect("two layers");
    assert_eq!(outcomes.map_outcomes(), [Outcome::Dropped; 2]);
    assert_eq!((first, second), (vec![0.0], vec![0.0; 2]));
}

trait Outcomes {
    fn map_outcomes(&self) -> Vec<Outcome>;
}

impl Outcomes for Vec<Clipped> {
    fn map_outcomes(&self) -> Vec<Outcome> {
        self.iter().map(|clipped| clipped.outcome).collect()
    }
}

#[test]
fn layers_and_bounds_that_do_not_match_are_refused() {
    let per_layer = LayerBounds::new(vec![bound(1.0)]).expect("valid bounds");
    let error = per_layer.clip(&mut []).expect_err("no layer");
    assert_eq!(error.to_string(), "0 layers for 1 clip bounds; give every layer its bound");
    LayerBounds::new(Vec::new()).expect_err("no bounds");
    LayerBounds::new(vec![bound(f64::MAX); 4]).expect_err("an infinite total");
    let tiny = LayerBounds::new(vec![bound(1e-300); 4]).expect("tiny bounds");
    assert!((tiny.total().value() / 2e-300 - 1.0).abs() < 1e-12);
}

fn adaptive(start: f64, count_deviation: f64, expected_units: f64) -> AdaptiveClip {
    AdaptiveClip::new(bound(start), 1.0, count_deviation, expected_units, NoiseMode::Grid).expect("valid parameters")
}

#[test]
fn the_adaptive_bound_moves_by_the_papers_update() {
    // All of 1000 within: share 1, one step of exp(−0.2 · 0.5); noise of 5 in 1000 moves the exponent by 0.001.
    let mut rng = SimulatedRng::from_seed([1; 32]);
    let down = adaptive(1.0, 5.0, 1000.0).update(1000, 1000, &mut rng).expect("randomness").value();
    assert!((down.ln() + 0.1).abs() < 0.006, "{down}");
    let up = adaptive(1.0, 5.0, 1000.0).update(0, 1000, &mut rng).expect("randomness").value();
    assert!((up.ln() - 0.1).abs() < 0.006, "{up}");
    // An empty sample says nothing, but its noise is there.
    let idle = adaptive(1.0, 5.0, 1000.0).update(0, 0, &mut rng).expect("randomness").value();
    assert!(idle.ln().abs() < 0.006 && idle.ln() != 0.0, "{idle}");
}

#[test]
fn the_adaptive_bound_finds_the_median() {
    // Norms are 1, 2, …, 1000: the median is 500.
    let mut rng = SimulatedRng::from_seed([2; 32]);
    let mut clip = adaptive(1.0, 20.0, 1000.0);
    for _ in 0..200 {
        let within = clip.bound().value().floor().min(1000.0) as usize;
        clip.update(within, 1000, &mut rng).expect("randomness");
    }
    assert!((clip.bound().value() - 500.0).abs() < 25.0, "{:?}", clip.bound());
}

#[test]
fn sum_and_count_together_cost_the_accounted_step() {
    for (sigma, count_deviation) in [(1.0, 10.0), (0.5, 0.3), (3.0, 1.6)] {
        let clip = AdaptiveClip::new(bound(1.0), sigma, count_deviation, 100.0, NoiseMode::Grid).expect("valid");
        let gradient: f64 = clip.gradient_noise_multiplier();
        let both = gradient.powi(-2) + (2.0 * count_deviation).powi(-2);
        assert!((both.powf(-0.5) / sigma - 1.0).abs() < 1e-12 && gradient > sigma);
    }
}

#[test]
fn adaptive_clipping_refuses_what_cannot_be_paid() {
    let new = |sigma, count, units| AdaptiveClip::new(bound(1.0), sigma, count, units, NoiseMode::Grid);
    for (sigma, count, units) in [
        (2.0, 1.0, 100.0),
        (3.0, 1.0, 100.0),
        (0.0, 1.0, 100.0),
        (f64::NAN, 1.0, 100.0),
        (1.0, f64::NAN, 100.0),
        (1.0, 0.0, 100.0),
        (1.0, f64::INFINITY, 100.0),
        (1.0, 10.0, 0.0),
        (1.0, 10.0, f64::INFINITY),
    ] {
        new(sigma, count, units).expect_err("out of range");
    }
    let mut rng = SimulatedRng::from_seed([3; 32]);
    let mut clip = new(1.0, 10.0, 100.0).expect("valid");
    clip.update(2, 1, &mut rng).expect_err("more within than there are");
    clip.update(0, 1 << 24, &mut rng).expect_err("more than f32 counts");
}

#[test]
fn the_adaptive_bound_stays_within_f32() {
    let mut rng = SimulatedRng::from_seed([4; 32]);
    // One expected unit under noise of 1000 makes steps as large as they can be.
    let mut clip = adaptive(1.0, 1000.0, 1.0);
    for _ in 0..2000 {
        let moved = clip.update(0, 1, &mut rng).expect("randomness").value();
        assert!((1e-20..=1e20).contains(&moved));
    }
}
