//! The weighted mean of many large tensors, at the speed of memory.
//!
//! Blocks of elements go to threads; within a block the accumulators are f64 and stay in the caches while the clients'
//! values stream past, several clients per pass. Each element is `((0 + p_1 x_1) + p_2 x_2) + ...` in
//! client order, whatever the blocks, the grouping and the width of the vector unit: multiply and add are rounded
//! separately, so wider registers do not change a bit.

use std::cell::RefCell;

use fedlora_adapter::{AdapterError, TensorSource};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::AggregationError;

/// Elements per block: reads of 128 KiB from a file, each worth its system call. Accumulators and values together are a
/// little more than a second-level cache of 512 KiB.
const BLOCK: usize = 32 * 1024;
/// Clients per pass over the accumulators.
const GROUP: usize = 4;

/// `sum p_k X_k`, rounded once to f32 at the end.
///
/// The mean of equal tensors with shares that sum to one is that tensor, bit for bit: the f64 error is far below half
/// a unit in the last place of f32.
///
/// # Errors
/// A source that cannot be read. Sources are of one length; a shorter one than the first is an error of the caller.
pub(crate) fn weighted_mean(sources: &[(f64, TensorSource<'_>)]) -> Result<Vec<f32>, AggregationError> {
    mean_with(sources, |value| value as f32)
}

/// As [`weighted_mean`], without the final rounding.
pub(crate) fn weighted_mean_f64(sources: &[(f64, TensorSource<'_>)]) -> Result<Vec<f64>, AggregationError> {
    mean_with(sources, |value| value)
}

fn mean_with<T: Copy + Default + Send>(
    sources: &[(f64, TensorSource<'_>)],
    finish: impl Fn(f64) -> T + Sync,
) -> Result<Vec<T>, AggregationError> {
    let length = sources.first().map_or(0, |(_, source)| source.len());
    let mut mean = vec![T::default(); length];
    let fill = |(index, out): (usize, &mut [T])| {
        SCRATCH.with_borrow_mut(|scratch| {
            let sums = scratch.sums(sources, index * BLOCK, out.len())?;
            out.iter_mut().zip(sums).for_each(|(out, &sum)| *out = finish(sum));
            Ok::<_, AdapterError>(())
        })
    };
    mean.par_chunks_mut(BLOCK).enumerate().try_for_each(fill)?;
    Ok(mean)
}

thread_local! {
    /// Kept from tensor to tensor: fresh pages from the system would cost more than the sums of a small tensor.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// What one thread needs: accumulators, and room for the blocks of clients whose values lie in files.
struct Scratch {
    arch: Arch,
    sums: Vec<f64>,
    blocks: Vec<f32>,
}

impl Scratch {
    fn new() -> Self {
        Self { arch: Arch::new(), sums: vec![0.0; BLOCK], blocks: vec![0.0; BLOCK * GROUP] }
    }

    /// Weighted sums of `length` elements from `offset` on.
    fn sums(
        &mut self,
        sources: &[(f64, TensorSource<'_>)],
        offset: usize,
        length: usize,
    ) -> Result<&[f64], AdapterError> {
        let sums = &mut self.sums[..length];
        sums.fill(0.0);
        for group in sources.chunks(GROUP) {
            let mut shares = [0.0; GROUP];
            let mut inputs: [&[f32]; GROUP] = [&[]; GROUP];
            for (slot, ((share, source), block)) in group.iter().zip(self.blocks.chunks_mut(BLOCK)).enumerate() {
                shares[slot] = *share;
                inputs[slot] = source.block(offset, &mut block[..length])?;
            }
            match group.len() {
                GROUP => self.arch.dispatch(AddGroup { sums, shares, inputs }),
                short => (0..short).for_each(|slot| {
                    self.arch.dispatch(AddGroup { sums, shares: [shares[slot]], inputs: [inputs[slot]] });
                }),
            }
        }
        Ok(&self.sums[..length])
    }
}

/// `sums += sum over the group of share * input`, element by element.
struct AddGroup<'a, const N: usize> {
    sums: &'a mut [f64],
    shares: [f64; N],
    inputs: [&'a [f32]; N],
}

impl<const N: usize> WithSimd for AddGroup<'_, N> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "only code inlined into the dispatch is compiled for its vector unit")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { sums, shares, inputs } = self;
        let length = sums.len();
        // Equal lengths that the compiler can see let it drop the bounds checks and vectorise the loop.
        let inputs = inputs.map(|input| &input[..length]);
        for index in 0..length {
            let mut sum = sums[index];
            for client in 0..N {
                sum += shares[client] * f64::from(inputs[client][index]);
            }
            sums[index] = sum;
        }
    }
}
