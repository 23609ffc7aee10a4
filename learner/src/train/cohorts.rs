//! Which clients go through the model together.

use std::{cmp::Reverse, sync::Arc};

use super::{LocalTrainer, batches};
use crate::{Job, device::is_cpu};

/// Tokens of one pass up to which clients are put together on the CPU.
///
/// Measured with two threads: of 64 clients with 16 tokens a step each (stories260K), a client's step takes 2.2 ms alone,
/// 1.4 to 1.5 ms in passes of 128 to 512 tokens; with 128 tokens, 8.0 ms alone and 7.0 ms in passes of 512; with 1,024
/// tokens, 62 ms alone and 63 to 74 ms with others, whose intermediate results no cache holds. `MiniLM` gains nothing.
const CPU_TOKENS: usize = 512;

/// The same on a GPU, which has thousands of lanes to fill. Not measured.
const GPU_TOKENS: usize = 8192;

impl LocalTrainer {
    /// Jobs that may train together, as indices: one plan, one specification, like amounts of work, largest first.
    pub(super) fn cohorts(&self, jobs: &[Job]) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        order.sort_by_key(|&index| Reverse(batches::steps(&jobs[index].plan.local, self.rows(&jobs[index]).len())));
        let alike = |&left: &usize, &right: &usize| {
            let (left, right) = (&jobs[left], &jobs[right]);
            let same_plan = Arc::ptr_eq(&left.plan, &right.plan) || left.plan == right.plan;
            same_plan && left.start.spec() == right.start.spec()
        };
        let cut = |alike: &[usize]| {
            let size = if self.cohort_size == 0 { self.fitting(jobs, alike) } else { self.cohort_size };
            alike.chunks(size).map(<[usize]>::to_vec).collect::<Vec<_>>()
        };
        order.chunk_by(alike).flat_map(cut).collect()
    }

    /// As many clients as fill a pass, but not so many that a thread of the CPU or one of several GPUs has none.
    fn fitting(&self, jobs: &[Job], alike: &[usize]) -> usize {
        let rows = || alike.iter().flat_map(|&index| self.rows(&jobs[index]));
        let tokens: usize = rows().map(|&row| self.shared.dataset.token_count(row)).sum();
        let examples = alike.first().map_or(1, |&index| jobs[index].plan.local.batch_size);
        let step = examples.saturating_mul(tokens.div_ceil(rows().count().max(1)));
        if is_cpu(&self.shared.model.device()) {
            together(CPU_TOKENS, step).min(alike.len().div_ceil(rayon::current_num_threads()))
        } else {
            together(GPU_TOKENS, step).min(alike.len().div_ceil(1 + self.others.len()))
        }
    }
}

/// How many steps of so many tokens have `most` tokens, at least one.
fn together(most: usize, step: usize) -> usize {
    (most / step.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_go_together_and_large_ones_alone() {
        let sizes = [0, 1, 16, 128, 300, 512, 100_000].map(|step| together(512, step));
        assert_eq!(sizes, [512, 512, 32, 4, 1, 1, 1]);
    }
}
