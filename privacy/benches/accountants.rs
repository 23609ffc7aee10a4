//! Cost of one `ε`, on one core.
//!
//! `cargo bench -p fedlora-privacy`: ten thousand equal steps, and ten thousand different ones, by each accountant; noise for a
//! budget.

use std::{hint::black_box, time::Instant};

use fedlora_privacy::{
    AccountantKind, SampledGaussian,
    calibrate::{self, Budget},
};

const DELTA: f64 = 1e-5;

fn main() {
    for kind in AccountantKind::ALL {
        let accountant = kind.build();
        let epsilon = |history: &[SampledGaussian]| accountant.epsilon(history, DELTA).expect("valid");
        let equal = [event(1.0, 0.01, 10_000)];
        let different: Vec<_> = (0..10_000).map(|step| different(f64::from(step))).collect();
        report(kind, "10,000 equal steps", 5, || epsilon(&equal));
        report(kind, "10,000 different steps", 1, || epsilon(&different));
        let budget = Budget::new(2.0, DELTA).expect("valid");
        let noise = || calibrate::noise_multiplier(&*accountant, budget, 0.01, 1000).expect("in reach");
        report(kind, "noise for epsilon 2 in 1,000 steps", 1, noise);
    }
}

fn event(noise_multiplier: f64, sample_rate: f64, steps: u64) -> SampledGaussian {
    SampledGaussian::new(noise_multiplier, sample_rate, steps).expect("valid")
}

/// Noise from 0.8 to 2, sampling from 0.005 to 0.02; no two alike.
fn different(step: f64) -> SampledGaussian {
    let [a, b] = [0.618_033_988_749_895, 0.414_213_562_373_095].map(|ratio| (step * ratio).fract());
    event(0.8 + 1.2 * a, 0.005 + 0.015 * b, 1)
}

/// Prints a result and the shortest of several runs: the one that was disturbed least.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn report(kind: AccountantKind, name: &str, runs: usize, work: impl Fn() -> f64) {
    let mut best = f64::INFINITY;
    let mut result = 0.0;
    for _ in 0..runs {
        let start = Instant::now();
        result = black_box(work());
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{kind:>4} {name:<36} {:>10.1} ms   {result:.6}", best * 1e3);
}
