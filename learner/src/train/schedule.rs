//! The learning rate as a function of the run's progress.
//!
//! It follows the global round: a client that trained its own schedule from the start in every round would never
//! leave the warm-up, and clients of different sizes would train at different rates.

use fedlora_adapter::{LocalHyperparameters, RoundId, Schedule};

/// Share of the run that lies behind a client before its optimiser step `step` of `steps` (from 0), in [0, 1).
#[must_use]
pub fn progress(round: RoundId, num_rounds: u64, step: u64, steps: u64) -> f64 {
    let within = step as f64 / steps.max(1) as f64;
    (round.0.saturating_sub(1) as f64 + within) / num_rounds.max(1) as f64
}

/// The learning rate at a point of the run, `progress` in [0, 1].
///
/// It rises from zero on a line during the warm-up and then falls as the schedule says; the linear and the cosine
/// schedule reach zero at the end of the run, as `transformers`' schedules of the same names do.
#[must_use]
pub fn learning_rate(local: &LocalHyperparameters, progress: f64) -> f64 {
    let (warmup, progress) = (local.warmup_ratio, progress.clamp(0.0, 1.0));
    if progress < warmup {
        return local.learning_rate * progress / warmup;
    }
    // With warmup = 1 the run ends at the peak.
    let remaining = if warmup < 1.0 { (1.0 - progress) / (1.0 - warmup) } else { 1.0 };
    let factor = match local.schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => remaining,
        Schedule::Cosine => 0.5 * (1.0 - (std::f64::consts::PI * remaining).cos()),
    };
    local.learning_rate * factor
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::{LocalWork, Optimizer};

    use super::*;

    fn local(schedule: Schedule, warmup_ratio: f64) -> LocalHyperparameters {
        LocalHyperparameters {
            work: LocalWork::Epochs(1),
            batch_size: 1,
            learning_rate: 2.0,
            optimizer: Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 },
            schedule,
            warmup_ratio,
            max_grad_norm: 0.0,
            lora_dropout: 0.0,
            proximal_mu: 0.0,
            loraplus_lr_ratio: 1.0,
            privacy: None,
        }
    }

    fn assert_rates(schedule: Schedule, warmup_ratio: f64, expected: &[(f64, f64)]) {
        let local = local(schedule, warmup_ratio);
        for &(at, rate) in expected {
            let found = learning_rate(&local, at);
            assert!((found - rate).abs() < 1e-12, "{schedule:?} at {at}: {found}, expected {rate}");
        }
    }

    #[test]
    fn a_constant_rate_only_warms_up() {
        assert_rates(Schedule::Constant, 0.0, &[(0.0, 2.0), (0.5, 2.0), (1.0, 2.0)]);
        assert_rates(Schedule::Constant, 0.5, &[(0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)]);
    }

    #[test]
    fn a_linear_rate_falls_on_a_line_from_the_end_of_the_warm_up_to_zero() {
        assert_rates(Schedule::Linear, 0.0, &[(0.0, 2.0), (0.25, 1.5), (1.0, 0.0)]);
        assert_rates(Schedule::Linear, 0.2, &[(0.1, 1.0), (0.2, 2.0), (0.6, 1.0), (1.0, 0.0)]);
    }

    #[test]
    fn a_cosine_rate_is_half_its_peak_half_way() {
        let third = 1.0 + (std::f64::consts::PI / 3.0).cos();
        assert_rates(Schedule::Cosine, 0.0, &[(0.0, 2.0), (1.0 / 3.0, third), (0.5, 1.0), (1.0, 0.0)]);
        assert_rates(Schedule::Cosine, 0.5, &[(0.25, 1.0), (0.5, 2.0), (0.75, 1.0), (1.0, 0.0)]);
    }

    #[test]
    fn progress_runs_through_the_rounds_without_gaps() {
        assert!((progress(RoundId(1), 4, 0, 5) - 0.0).abs() < 1e-15);
        assert!((progress(RoundId(1), 4, 5, 5) - progress(RoundId(2), 4, 0, 7)).abs() < 1e-15);
        assert!((progress(RoundId(4), 4, 3, 4) - 0.9375).abs() < 1e-15);
    }
}
