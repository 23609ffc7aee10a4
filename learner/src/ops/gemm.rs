//! Dense products of row-major matrices on the CPU, in safe code at the speed of the vector units.
//!
//! The right operand is packed once per operation ([`Packed`]), however many row blocks share it; the left one is
//! packed block by block. One tile of the output stays in registers over the whole reduction. Every output element is
//! summed in the order of the reduction index, so that results depend neither on the number of threads nor on the rows
//! that happen to share a block: what a client computes alone and in a group of clients is the same bit for bit.

mod packed;
mod tile;
mod view;

use pulp::Arch;
use rayon::prelude::*;

pub(super) use packed::Packed;
pub(super) use tile::{Multiply, Start};
pub(super) use view::View;

/// Rows of the output that one task computes: the packed left block stays in the second-level cache, and tiles of six
/// rows as of eight fill it without a remainder.
pub(super) const ROW_BLOCK: usize = 48;

/// `out = start + left · right` on all threads of the current pool; `out` is dense, `[left.rows(), right.columns()]`.
pub(super) fn multiply(left: View<'_>, right: &Packed, start: Start<'_>, out: &mut [f32]) {
    let columns = right.columns();
    out.par_chunks_mut((ROW_BLOCK * columns).max(1)).enumerate().for_each(|(block, out)| {
        let first = block * ROW_BLOCK;
        let left = left.row_range(first, out.len() / columns);
        multiply_block(left, right, start, out);
    });
}

/// The same on the calling thread, block by block.
pub(super) fn multiply_blocks(left: View<'_>, right: &Packed, start: Start<'_>, out: &mut [f32]) {
    let columns = right.columns();
    for (block, out) in out.chunks_mut((ROW_BLOCK * columns).max(1)).enumerate() {
        multiply_block(left.row_range(block * ROW_BLOCK, out.len() / columns), right, start, out);
    }
}

/// One block of at most [`ROW_BLOCK`] rows.
pub(super) fn multiply_block(left: View<'_>, right: &Packed, start: Start<'_>, out: &mut [f32]) {
    Arch::new().dispatch(Multiply { left, right, start, out });
}
