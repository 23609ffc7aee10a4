//! Label skew: each label's rows are divided in proportions drawn from a Dirichlet distribution.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma};

use super::{PartitionConfig, PartitionError};

/// Draws before giving up; a draw costs one gamma variate for each label and client.
const DRAWS: usize = 1000;

/// Repeats draws until every client holds `min-partition-size` rows.
pub(super) fn draw(
    config: &PartitionConfig,
    labels: &[u32],
    rng: &mut impl Rng,
) -> Result<Vec<Vec<u32>>, PartitionError> {
    let (clients, required) = (config.clients(), config.min_partition_size.max(1));
    if labels.len() < clients * required {
        return Err(PartitionError::TooFewRows { rows: labels.len(), clients, required });
    }
    let by_label = shuffled_by_label(labels, rng);
    let mut best = 0;
    for _ in 0..DRAWS {
        let boundaries: Vec<Vec<usize>> =
            by_label.iter().map(|rows| boundaries(rows.len(), &proportions(config.alpha, clients, rng))).collect();
        let smallest = smallest(&boundaries, clients);
        if smallest >= required {
            return Ok(cut(&by_label, &boundaries, clients));
        }
        best = best.max(smallest);
    }
    Err(PartitionError::UnluckyDraws { draws: DRAWS, alpha: config.alpha, clients, best, required })
}

fn shuffled_by_label(labels: &[u32], rng: &mut impl Rng) -> Vec<Vec<u32>> {
    let count = labels.iter().max().map_or(0, |label| *label as usize + 1);
    let mut by_label = vec![Vec::new(); count];
    for (row, label) in (0..).zip(labels) {
        by_label[*label as usize].push(row);
    }
    for rows in &mut by_label {
        rows.shuffle(rng);
    }
    by_label
}

/// One draw from the symmetric Dirichlet distribution: normalised gamma variates.
///
/// They are drawn as logarithms, by `Gamma(alpha) = Gamma(alpha + 1) * U^(1/alpha)` (Marsaglia and Tsang 2000, section
/// 6): for small `alpha` all of them may otherwise round to zero, leaving nothing to normalise.
fn proportions(alpha: f64, clients: usize, rng: &mut impl Rng) -> Vec<f64> {
    // Cannot fail: the configuration's check has `alpha` finite and above 0, and the scale is 1.
    let gamma = Gamma::new(alpha + 1.0, 1.0).expect("alpha is finite and above 0");
    let logarithm = |rng: &mut _| {
        let uniform: f64 = 1.0 - RngExt::random::<f64>(rng);
        gamma.sample(rng).ln() + uniform.ln() / alpha
    };
    let logarithms: Vec<f64> = (0..clients).map(|_| logarithm(rng)).collect();
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logarithms.into_iter().map(|logarithm| (logarithm - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Where each client's share of `rows` rows ends; the last end is `rows`.
fn boundaries(rows: usize, proportions: &[f64]) -> Vec<usize> {
    let mut sum = 0.0;
    let mut ends: Vec<usize> = proportions
        .iter()
        .map(|proportion| {
            sum += proportion;
            ((sum * rows as f64) as usize).min(rows)
        })
        .collect();
    // The sum of the proportions is 1 only up to rounding.
    if let Some(last) = ends.last_mut() {
        *last = rows;
    }
    ends
}

fn shares(ends: &[usize]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, end)| start..*end)
}

fn smallest(boundaries: &[Vec<usize>], clients: usize) -> usize {
    let mut sizes = vec![0; clients];
    for ends in boundaries {
        for (size, share) in sizes.iter_mut().zip(shares(ends)) {
            *size += share.len();
        }
    }
    sizes.into_iter().min().unwrap_or(0)
}

fn cut(by_label: &[Vec<u32>], boundaries: &[Vec<usize>], clients: usize) -> Vec<Vec<u32>> {
    let mut held = vec![Vec::new(); clients];
    for (rows, ends) in by_label.iter().zip(boundaries) {
        for (client, share) in held.iter_mut().zip(shares(ends)) {
            client.extend(&rows[share]);
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::{Purpose, Seed};

    use super::*;

    #[test]
    fn proportions_have_the_mean_and_variance_of_the_distribution() {
        // Dirichlet(0.5) of 4: mean 1/4, variance (1/4)(3/4)/(4 * 0.5 + 1) = 0.0625. Of 4000 draws, four standard
        // errors of the mean are 4 * 0.25 / sqrt(4000) = 0.016; the fourth moment bounds those of the variance by 0.01.
        let rng = &mut Seed(1).run(Purpose::Partition);
        let draws: Vec<f64> = (0..4000).map(|_| proportions(0.5, 4, rng)[0]).collect();
        let mean = draws.iter().sum::<f64>() / 4000.0;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 4000.0;
        assert!((mean - 0.25).abs() < 0.016, "{mean}");
        assert!((variance - 0.0625).abs() < 0.01, "{variance}");
    }

    #[test]
    fn tiny_alphas_give_everything_to_one_client_instead_of_nothing() {
        // The largest share is below 0.99 with a probability of about 4 * alpha * ln 100, here once in 500 such tests.
        let rng = &mut Seed(1).run(Purpose::Partition);
        for _ in 0..100 {
            let drawn = proportions(1e-6, 5, rng);
            assert!((drawn.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!(drawn.iter().any(|proportion| *proportion > 0.99), "{drawn:?}");
        }
    }

    #[test]
    fn boundaries_end_with_the_last_row() {
        assert_eq!(boundaries(10, &[0.25, 0.5, 0.25]), [2, 7, 10]);
        assert_eq!(boundaries(3, &[0.1; 9]), [0, 0, 0, 1, 1, 1, 2, 2, 3]);
    }
}
