//! The directions in which rows vary most, kept up to date as more rows come.
//!
//! "Incremental Learning for Robust Visual Tracking" (Ross et al. 2008), section 3.1: the directions so far, times their
//! singular values, and the new rows about their mean are decomposed together, with one row more for the way between the
//! two means.

use fedlora_adapter::{LoraFactors, ModuleSpec, Tensor, leading_svd};

use crate::LearnerError;

/// Directions kept beyond those that are asked for: what is cut off in one batch may matter in the next.
const SPARE: usize = 8;
/// A direction counts as none below this share of the first one's singular value: rounding of f32 has such.
const NOTHING: f64 = 1e-6;

/// Directions of `width` values.
#[derive(Debug)]
pub(super) struct Principal {
    width: usize,
    rank: usize,
    count: usize,
    mean: Vec<f64>,
    /// Unit rows, one after the other, the longest first.
    directions: Vec<f32>,
    /// Their singular values.
    lengths: Vec<f64>,
}

impl Principal {
    /// No rows yet, of which `rank` directions are wanted.
    pub(super) fn new(width: usize, rank: usize) -> Self {
        Self { width, rank, count: 0, mean: vec![0.0; width], directions: Vec::new(), lengths: Vec::new() }
    }

    /// Takes in rows of `width` values each.
    pub(super) fn add(&mut self, rows: &[f32]) -> Result<(), LearnerError> {
        let (before, new) = (self.count, rows.len() / self.width);
        if new == 0 {
            return Ok(());
        }
        let mean = column_means(rows, self.width);
        let mut stacked = Vec::with_capacity(rows.len() + (self.lengths.len() + 1) * self.width);
        for (length, direction) in self.lengths.iter().zip(self.directions.chunks_exact(self.width)) {
            stacked.extend(direction.iter().map(|&value| (length * f64::from(value)) as f32));
        }
        for row in rows.chunks_exact(self.width) {
            stacked.extend(row.iter().zip(&mean).map(|(&value, mean)| (f64::from(value) - mean) as f32));
        }
        let way = (before as f64 / (before + new) as f64 * new as f64).sqrt();
        stacked.extend(self.mean.iter().zip(&mean).map(|(old, new)| (way * (old - new)) as f32));
        let share = new as f64 / (before + new) as f64;
        self.mean.iter_mut().zip(&mean).for_each(|(old, new)| *old += share * (new - *old));
        self.count += new;
        self.decompose(stacked)
    }

    fn decompose(&mut self, stacked: Vec<f32>) -> Result<(), LearnerError> {
        let module = ModuleSpec::new(self.width, stacked.len() / self.width);
        let kept = (self.rank + SPARE).min(module.d_in).min(module.d_out);
        let stacked = Tensor::new(vec![module.d_out, module.d_in], stacked)?;
        let LoraFactors { a, b } = leading_svd(&stacked, &module, kept)?;
        let column = |k: usize| b.values().iter().skip(k).step_by(kept);
        let length = |k: usize| column(k).map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        self.lengths = (0..kept).map(length).collect();
        self.directions = a.values().to_vec();
        Ok(())
    }

    /// The first directions, one row after the other; their number where there are fewer than wanted.
    pub(super) fn directions(mut self) -> Result<Vec<f32>, usize> {
        let least = NOTHING * self.lengths.first().copied().unwrap_or(0.0);
        let found = self.lengths.iter().take(self.rank).filter(|&&length| length > least).count();
        if found < self.rank {
            return Err(found);
        }
        self.directions.truncate(self.rank * self.width);
        Ok(self.directions)
    }
}

fn column_means(rows: &[f32], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = (rows.len() / width) as f64;
    sums.into_iter().map(|sum| sum / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 5;

    /// Rows that vary by 9, 3 and 1 along three axes, about a mean far away.
    fn rows(count: usize) -> Vec<f32> {
        let wave = |index: usize, step: f64| (step * index as f64).sin();
        let row = |index: usize| {
            [7.0, 9.0 * wave(index, 0.71), -30.0 + 3.0 * wave(index, 1.13), 0.5 * wave(index, 2.9), wave(index, 0.37)]
        };
        (0..count).flat_map(row).map(|value| value as f32).collect()
    }

    #[test]
    fn directions_are_those_of_the_variation_not_of_the_mean_and_come_in_its_order() {
        let mut principal = Principal::new(WIDTH, 3);
        principal.add(&rows(4000)).unwrap();
        let found = principal.directions().unwrap();
        for (direction, axis) in found.chunks(WIDTH).zip([1, 2, 4]) {
            // Sines of incommensurate steps are uncorrelated up to the inverse of their number.
            assert!((direction[axis] - 1.0).abs() < 1e-4, "{direction:?}");
        }
    }

    #[test]
    fn rows_in_pieces_are_rows_at_once_where_all_directions_are_kept() {
        let all = rows(60);
        let mut whole = Principal::new(WIDTH, 3);
        whole.add(&all).unwrap();
        let mut pieces = Principal::new(WIDTH, 3);
        for piece in [&all[..WIDTH], &all[WIDTH..20 * WIDTH], &[], &all[20 * WIDTH..]] {
            pieces.add(piece).unwrap();
        }
        for (found, expected) in pieces.lengths.iter().zip(&whole.lengths) {
            assert!((found - expected).abs() < 1e-5 * whole.lengths[0]);
        }
        let (pieces, whole) = (pieces.directions().unwrap(), whole.directions().unwrap());
        // The three singular values are a factor of three apart; each merge rounds to f32.
        assert!(pieces.iter().zip(&whole).all(|(found, expected)| (found - expected).abs() < 1e-5));
    }

    #[test]
    fn rows_that_vary_in_fewer_directions_are_told() {
        let mut principal = Principal::new(WIDTH, 3);
        principal.add(&rows(3)).unwrap();
        assert_eq!(principal.directions().unwrap_err(), 2);
        assert_eq!(Principal::new(WIDTH, 1).directions().unwrap_err(), 0);
    }
}
