//! Order statistics of many large tensors, coordinate by coordinate.
//!
//! Blocks of coordinates go to threads; a block of all clients' values stays in the cache while its coordinates are
//! gathered and sorted one after the other. A coordinate depends on nothing but its own values, sorted, so neither
//! blocks nor threads nor the order of the clients change a bit.

use fedlora_adapter::{AdapterError, TensorSource};
use rayon::prelude::*;

/// Values of all clients per block: 512 KiB, about a second-level cache.
const VALUES: usize = 128 * 1024;
/// Shortest block: reads of files below that are mostly system calls.
const SHORTEST: usize = 1024;

/// `pick` of each coordinate's values, one per source, in ascending order.
///
/// `pick` never sees a value that is not finite: the coordinate becomes NaN instead, for the result to be refused,
/// rather than sorted quietly to one end.
///
/// # Errors
/// A source that cannot be read. Sources are of one length; a shorter one than the first is an error of the caller.
pub(crate) fn pick_each(
    sources: &[TensorSource<'_>],
    pick: impl Fn(&[f32]) -> f32 + Sync,
) -> Result<Vec<f32>, AdapterError> {
    let length = sources.first().map_or(0, TensorSource::len);
    let block = (VALUES / sources.len().max(1)).max(SHORTEST);
    let mut picked = vec![0.0; length];
    let fill = |scratch: &mut Scratch, (index, out): (usize, &mut [f32])| {
        scratch.pick_block(sources, index * block, out, &pick)
    };
    picked
        .par_chunks_mut(block)
        .enumerate()
        .try_for_each_init(|| Scratch::new(sources.len(), block.min(length)), fill)?;
    Ok(picked)
}

/// The middle one of values in ascending order; of an even number the mean of the middle two.
pub(crate) fn median(sorted: &[f32]) -> f32 {
    let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    f64::midpoint(lower.into(), upper.into()) as f32
}

/// What one thread needs: room for the clients' blocks, and for one coordinate of all of them.
struct Scratch {
    blocks: Vec<f32>,
    block: usize,
    column: Vec<f32>,
}

impl Scratch {
    fn new(sources: usize, block: usize) -> Self {
        Self { blocks: vec![0.0; sources * block], block, column: vec![0.0; sources] }
    }

    fn pick_block(
        &mut self,
        sources: &[TensorSource<'_>],
        offset: usize,
        out: &mut [f32],
        pick: impl Fn(&[f32]) -> f32,
    ) -> Result<(), AdapterError> {
        let rooms = self.blocks.chunks_mut(self.block);
        let rows: Vec<&[f32]> = sources
            .iter()
            .zip(rooms)
            .map(|(source, room)| source.block(offset, &mut room[..out.len()]))
            .collect::<Result<_, _>>()?;
        for (index, out) in out.iter_mut().enumerate() {
            self.column.iter_mut().zip(&rows).for_each(|(value, row)| *value = row[index]);
            self.column.sort_unstable_by(f32::total_cmp);
            // In this order whatever is not finite lies at one of the ends.
            let is_finite = [self.column.first(), self.column.last()].into_iter().flatten().all(|end| end.is_finite());
            *out = if is_finite { pick(&self.column) } else { f32::NAN };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::Tensor;

    use super::*;

    fn pick(values: &[&[f32]], pick: impl Fn(&[f32]) -> f32 + Sync) -> Vec<f32> {
        let tensors: Vec<_> = values.iter().map(|values| Tensor::from_fn(&[values.len()], |i| values[i])).collect();
        let sources: Vec<_> = tensors.iter().map(|tensor| TensorSource::Memory(tensor.as_ref())).collect();
        pick_each(&sources, pick).expect("in memory")
    }

    #[test]
    fn the_median_of_an_odd_number_is_one_of_them_and_of_an_even_number_between_two() {
        let found = pick(&[&[3.0, -1.0], &[1.0, f32::MAX], &[2.0, 5.0]], median);
        assert_eq!(found, [2.0, 5.0]);
        let found = pick(&[&[3.0, f32::MAX], &[1.0, f32::MAX], &[2.0, f32::MAX], &[9.0, f32::MIN]], median);
        assert_eq!(found, [2.5, f32::MAX], "no overflow on the way");
    }

    #[test]
    fn more_coordinates_than_a_block_holds_are_all_picked() {
        let length = VALUES / 2 + SHORTEST / 2;
        let values: Vec<Vec<f32>> = (0..3).map(|k| (0..length).map(|i| ((i + k) % 7) as f32).collect()).collect();
        let rows: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let middle = |i: usize| {
            let mut column = [0, 1, 2].map(|k| (i + k) % 7);
            column.sort_unstable();
            column[1] as f32
        };
        assert_eq!(pick(&rows, median), (0..length).map(middle).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_finite_is_not_sorted_away() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let found = pick(&[&[bad, 0.0], &[1.0, 1.0], &[2.0, 2.0]], median);
            assert!(found[0].is_nan() && found[1].total_cmp(&1.0).is_eq(), "{bad}: {found:?}");
        }
    }
}
