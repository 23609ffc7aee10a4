//! Equal shares.

use rand::Rng;
use rand::seq::SliceRandom;

/// Deals shuffled rows into `clients` shares whose sizes differ by at most one.
pub(super) fn deal(mut rows: Vec<u32>, clients: usize, rng: &mut impl Rng) -> Vec<Vec<u32>> {
    rows.shuffle(rng);
    let mut shares = vec![Vec::with_capacity(rows.len() / clients + 1); clients];
    for (row, client) in rows.into_iter().zip((0..clients).cycle()) {
        shares[client].push(row);
    }
    shares
}
