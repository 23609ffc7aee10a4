//! Which rows a client trains on at each step: its own shuffled rows, cut into batches.

use fedlora_adapter::{ClientId, LocalHyperparameters, LocalWork, Purpose, RoundId, Seed};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;

/// Number of optimiser steps that a client with `examples` examples takes in a round.
///
/// The last batch of a pass may be smaller than the others; no example is left out.
pub(super) fn steps(local: &LocalHyperparameters, examples: usize) -> u64 {
    match local.work {
        LocalWork::Epochs(epochs) => u64::from(epochs) * examples.div_ceil(local.batch_size.max(1)) as u64,
        LocalWork::Steps(steps) => u64::from(steps),
    }
}

/// One client's batches, pass after pass, each pass in a new order.
///
/// The order depends on seed, round and client only, so it is the same whichever clients train beside this one.
#[derive(Debug)]
pub(crate) struct Batches {
    rows: Vec<u32>,
    batch_size: usize,
    next: usize,
    rng: ChaCha12Rng,
}

impl Batches {
    /// Batches over a client's rows; there must be at least one row.
    pub(crate) fn new(rows: &[u32], batch_size: usize, seed: Seed, round: RoundId, client: ClientId) -> Self {
        let rng = seed.client(Purpose::Shuffle, round, client);
        Self { rows: rows.to_vec(), batch_size: batch_size.max(1), next: rows.len(), rng }
    }

    /// The rows of the next step.
    pub(crate) fn next_rows(&mut self) -> &[u32] {
        if self.next >= self.rows.len() {
            self.rows.shuffle(&mut self.rng);
            self.next = 0;
        }
        let start = self.next;
        self.next = (start + self.batch_size).min(self.rows.len());
        // Bounds: `start` is below the length here and `next` is at most the length.
        &self.rows[start..self.next]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(client: u64) -> Batches {
        Batches::new(&[10, 11, 12, 13, 14], 2, Seed(1), RoundId(3), ClientId(client))
    }

    fn pass(batches: &mut Batches) -> Vec<Vec<u32>> {
        (0..3).map(|_| batches.next_rows().to_vec()).collect()
    }

    #[test]
    fn each_pass_visits_every_row_once_and_ends_with_the_remainder() {
        let mut batches = batches(1);
        let passes = [pass(&mut batches), pass(&mut batches)];
        for batches in &passes {
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
            let mut rows = batches.concat();
            rows.sort_unstable();
            assert_eq!(rows, [10, 11, 12, 13, 14]);
        }
        assert_ne!(passes[0], passes[1], "the second pass is shuffled anew");
    }

    #[test]
    fn the_order_belongs_to_the_client() {
        assert_eq!(pass(&mut batches(1)), pass(&mut batches(1)));
        assert_ne!(pass(&mut batches(1)), pass(&mut batches(2)));
    }
}
