//! The integers and the coins have the probabilities that they claim.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use crate::{
    noise::{coins, discrete::DiscreteGaussian},
    scripted::Words,
};

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

/// The value that a χ² variable exceeds with probability 1e-4 (Wilson and Hilferty's approximation).
fn chi_square_limit(degrees: usize) -> f64 {
    let k = degrees as f64;
    k * (1.0 - 2.0 / (9.0 * k) + 3.719 * (2.0 / (9.0 * k)).sqrt()).powi(3)
}

/// The normal distribution function by its series `1/2 + φ(x) Σ x^(2k+1)/(2k+1)!!`.
fn normal(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for k in 1..400 {
        term *= x * x / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

#[test]
fn ratios_are_compared_to_the_last_bit() {
    const THIRD: u64 = 0x5555_5555_5555_5555;
    // 1/3 is 0.010101… in binary: a tie in every word, decided by the word that differs.
    assert!(coins::ratio(1, 3, &mut Words(vec![THIRD - 1])));
    assert!(!coins::ratio(1, 3, &mut Words(vec![THIRD + 1])));
    assert!(coins::ratio(1, 3, &mut Words(vec![THIRD, THIRD, THIRD - 1])));
    assert!(!coins::ratio(1, 3, &mut Words(vec![THIRD, THIRD, THIRD + 1])));
    assert!(coins::ratio(1, 2, &mut Words(vec![(1 << 63) - 1])));
    assert!(!coins::ratio(1, 2, &mut Words(vec![1 << 63])));
    assert!(!coins::ratio(0, 7, &mut Words(vec![0])));
    assert!(coins::ratio(7, 7, &mut Words(vec![u64::MAX])));
    assert!(!coins::ratio(1, u64::MAX, &mut Words(vec![1, u64::MAX])));
}

#[test]
fn whole_numbers_below_a_limit_are_drawn_evenly() {
    // 2⁶⁴ is 1 modulo 3: the word 0 is the one too many, and is drawn again.
    assert_eq!(coins::below(3, &mut Words(vec![0, u64::MAX])), 2);
    assert_eq!(coins::below(3, &mut Words(vec![1])), 0);
    assert_eq!(coins::below(1, &mut Words(vec![u64::MAX])), 0);
    let mut counts = [0_u32; 7];
    let mut rng = rng(1);
    (0..70_000).for_each(|_| counts[coins::below(7, &mut rng) as usize] += 1);
    // 10 000 ± 93 each.
    assert!(counts.iter().all(|count| (9500..10_500).contains(count)), "{counts:?}");
}

#[test]
fn coins_of_decay_fall_by_the_exponential() {
    let mut rng = rng(2);
    let draws = 200_000;
    for (numerator, denominator) in [(0, 1), (1, 10), (1, 2), (9, 10), (1, 1), (u64::MAX / 2, u64::MAX / 2 + 1)] {
        let heads = (0..draws).filter(|_| coins::decay(numerator, denominator, &mut rng)).count() as f64;
        let expected = (-(numerator as f64) / denominator as f64).exp();
        // Five standard errors.
        let tolerance = 5.0 * (expected * (1.0 - expected) / f64::from(draws)).sqrt();
        assert!((heads / f64::from(draws) - expected).abs() <= tolerance, "{numerator}/{denominator}: {heads}");
    }
    for times in [0, 1, 3] {
        let heads = (0..draws).filter(|_| coins::decay_by(times, &mut rng)).count() as f64;
        let expected = (-(times as f64)).exp();
        assert!((heads / f64::from(draws) - expected).abs() < 0.006, "{times}: {heads}");
    }
}

/// χ² of draws against the probabilities themselves, whole numbers of fewer than 10 expected draws taken together.
fn chi_square(scale: u64, draws: u32, seed: u8) {
    let (mut rng, gaussian) = (rng(seed), DiscreteGaussian::new(scale).expect("in range"));
    let reach = 10 * scale as i64;
    let mass = |x: i64| (-(x as f64).powi(2) / (2.0 * (scale as f64).powi(2))).exp();
    let total: f64 = (-reach..=reach).map(mass).sum();
    let mut counts = vec![0_u32; 2 * reach as usize + 1];
    (0..draws).for_each(|_| counts[(gaussian.sample(&mut rng) + reach) as usize] += 1);
    let (mut statistic, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
    for (x, count) in (-reach..=reach).zip(counts) {
        let expected = f64::from(draws) * mass(x) / total;
        if expected < 10.0 {
            rare = (rare.0 + expected, rare.1 + f64::from(count));
            continue;
        }
        statistic += (f64::from(count) - expected).powi(2) / expected;
        cells += 1;
    }
    if rare.0 > 1.0 {
        statistic += (rare.1 - rare.0).powi(2) / rare.0;
        cells += 1;
    }
    assert!(statistic < chi_square_limit(cells - 1), "scale {scale}: χ² {statistic:.1} in {cells} cells");
}

#[test]
fn small_scales_have_the_probabilities_of_the_discrete_gaussian() {
    for (scale, seed) in [(1, 3), (2, 4), (3, 5), (10, 6), (100, 7)] {
        chi_square(scale, 300_000, seed);
    }
}

/// Kolmogorov and Smirnov's distance to the normal distribution, moments and tails at the scale of the grid.
fn compare_with_normal(draws: usize, seed: u8) {
    let scale = (1_u64 << 24) + 12_345;
    let (mut rng, gaussian) = (rng(seed), DiscreteGaussian::new(scale).expect("in range"));
    let mut values: Vec<f64> = (0..draws).map(|_| gaussian.sample(&mut rng) as f64 / scale as f64).collect();
    let count = draws as f64;
    let moment = |power: i32| values.iter().map(|x| x.powi(power)).sum::<f64>() / count;
    // Moments 0, 1, 0, 3 with variances 1, 2, 15, 96 over the number of draws; five standard errors.
    for (power, expected, variance) in [(1, 0.0, 1.0_f64), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let found = moment(power);
        assert!((found - expected).abs() < 5.0 * (variance / count).sqrt(), "moment {power}: {found}");
    }
    // Low bits are as even as they should be.
    let odd = values.iter().filter(|x| (**x * scale as f64).round() as i64 % 2 != 0).count() as f64;
    assert!((odd / count - 0.5).abs() < 2.5 / count.sqrt(), "{odd} odd");
    for (beyond, expected) in [(3.0, 2.6998e-3), (4.0, 6.3342e-5), (5.0, 5.7330e-7), (6.0, 1.9732e-9)] {
        let (found, expected) = (values.iter().filter(|x| x.abs() > beyond).count() as f64, expected * count);
        // Five standard errors, and two draws where next to none are expected.
        assert!((found - expected).abs() < 5.0 * expected.sqrt() + 2.0, "beyond {beyond}: {found} for {expected}");
    }
    values.sort_by(f64::total_cmp);
    let step = |(rank, x): (usize, &f64)| ((rank as f64 + 0.5) / count - normal(*x)).abs();
    let distance = values.iter().enumerate().map(step).fold(0.0, f64::max);
    // √n · distance exceeds 2.225 with probability 1e-4.
    assert!(distance * count.sqrt() < 2.225, "{distance}");
}

#[test]
fn the_grids_scale_is_normal_to_the_tails() {
    compare_with_normal(500_000, 8);
}

#[test]
#[ignore = "10⁷ draws take about ten seconds: cargo test --release -- --ignored ten_million"]
fn ten_million_draws_are_normal_to_six_deviations() {
    compare_with_normal(10_000_000, 9);
    chi_square(10, 10_000_000, 10);
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    assert!(DiscreteGaussian::new(0).is_none());
    assert!(DiscreteGaussian::new(1 << 31).is_none());
    let largest = DiscreteGaussian::new((1 << 31) - 1).expect("in range");
    let mut rng = rng(11);
    let far = (0..1000).map(|_| largest.sample(&mut rng).unsigned_abs()).max().expect("draws");
    assert!((1_u64 << 32..1_u64 << 34).contains(&far), "{far}");
}
