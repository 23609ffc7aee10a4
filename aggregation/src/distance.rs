//! Distances of many large tensors from one point, at the speed of memory.

use fedlora_adapter::{AdapterError, TensorSource};
use rayon::prelude::*;

/// Elements per read from a file.
const BLOCK: usize = 32 * 1024;
/// Sums that are kept side by side, so that an addition need not wait for the one before it.
const LANES: usize = 8;

/// `‖X_k - V‖` of each source, in f64: squares of f32 cannot overflow there.
///
/// A client's sum is one thread's work and in a fixed order, so that its bits do not depend on the number of threads.
///
/// # Errors
/// A source that cannot be read. Sources are of the point's length; a shorter one is an error of the caller.
pub(crate) fn distances_from(point: &[f64], sources: &[TensorSource<'_>]) -> Result<Vec<f64>, AdapterError> {
    sources.par_iter().map(|source| distance(point, source)).collect()
}

fn distance(point: &[f64], source: &TensorSource<'_>) -> Result<f64, AdapterError> {
    let mut block = vec![0.0; BLOCK.min(point.len())];
    let mut squares = 0.0;
    for (index, point) in point.chunks(BLOCK).enumerate() {
        squares += squared(point, source.block(index * BLOCK, &mut block[..point.len()])?);
    }
    Ok(squares.sqrt())
}

fn squared(point: &[f64], values: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    for (point, values) in point.chunks(LANES).zip(values.chunks(LANES)) {
        for ((lane, point), &value) in lanes.iter_mut().zip(point).zip(values) {
            let difference = f64::from(value) - point;
            *lane += difference * difference;
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::Tensor;

    use super::*;

    #[test]
    fn every_coordinate_counts_once_whatever_the_length() {
        for length in [1, LANES - 1, LANES + 1, BLOCK - 1, BLOCK + LANES + 3] {
            let ones = Tensor::from_fn(&[length], |_| 2.0);
            let found = distances_from(&vec![-1.0; length], &[TensorSource::Memory(ones.as_ref())]).expect("in memory");
            // Sums of nines are exact, and so is the root's input; the root is rounded once.
            assert_eq!(found[0].to_bits(), (9.0 * length as f64).sqrt().to_bits(), "{length}");
        }
    }
}
