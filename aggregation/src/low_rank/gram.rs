//! Inner products of many long vectors at once: what the norms of sums of low-rank products are made of.
//!
//! Blocks of positions of all vectors are gathered side by side, so that no two of them compete for the same sets of a
//! cache, as vectors a power of two apart do. From a block, tiles of the lower triangle are summed in registers.

use pulp::{Arch, Simd, WithSimd};

use super::Matrix;

/// Positions per block: 2 KiB of each vector, so that those of a tile stay in the first-level cache.
const BLOCK: usize = 256;
/// A tile is `TALL x WIDE`: eight sums, enough to hide the latency of two units for products and sums.
const TALL: usize = 4;
const WIDE: usize = 2;

/// How the vectors of a matrix lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vectors {
    /// `a_t`: each column is one.
    Columns,
    /// `b_t`: each row is one.
    Rows,
}

/// Inner products of all vectors of all `parts` with each other, numbered through in order.
///
/// Parts have equally long vectors. Symmetric to the bit.
pub(crate) fn gram(parts: &[Matrix], vectors: Vectors) -> Matrix {
    let (count, length) = parts.iter().fold((0, 0), |(count, _), part| match vectors {
        Vectors::Columns => (count + part.ncols(), part.nrows()),
        Vectors::Rows => (count + part.nrows(), part.ncols()),
    });
    // Vectors of zeros fill the last tile.
    let padded = count.next_multiple_of(TALL);
    let mut sums = Matrix::zeros(padded, padded);
    let mut packed = vec![0.0; padded * BLOCK];
    let arch = Arch::new();
    for start in (0..length).step_by(BLOCK) {
        let taken = BLOCK.min(length - start);
        if taken < BLOCK {
            packed.fill(0.0);
        }
        pack(&mut packed, parts, vectors, start, taken);
        arch.dispatch(Tiles { packed: &packed, sums: &mut sums });
    }
    Matrix::from_fn(count, count, |row, column| sums[(row.max(column), row.min(column))])
}

/// Gathers `taken` positions of every vector from `start` on, each vector's in a row of [`BLOCK`].
fn pack(packed: &mut [f64], parts: &[Matrix], vectors: Vectors, start: usize, taken: usize) {
    let mut rows = packed.chunks_exact_mut(BLOCK);
    for part in parts {
        match vectors {
            Vectors::Columns => {
                for (vector, row) in part.column_iter().zip(&mut rows) {
                    row[..taken].copy_from_slice(&vector.as_slice()[start..start + taken]);
                }
            }
            Vectors::Rows => {
                let rank = part.nrows();
                let values = &part.as_slice()[start * rank..(start + taken) * rank];
                for (vector, row) in (0..rank).zip(&mut rows) {
                    let own = values[vector..].iter().step_by(rank);
                    row[..taken].iter_mut().zip(own).for_each(|(row, value)| *row = *value);
                }
            }
        }
    }
}

/// Adds one block's inner products to the tiles on and below the diagonal.
struct Tiles<'a> {
    packed: &'a [f64],
    sums: &'a mut Matrix,
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "only code inlined into the dispatch is compiled for its vector unit")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { packed, sums } = self;
        let rows: Vec<&[S::f64s]> = packed.chunks_exact(BLOCK).map(|row| S::as_simd_f64s(row).0).collect();
        for (above, tall) in rows.chunks_exact(TALL).enumerate() {
            let first = above * TALL;
            for (before, wide) in rows[..first + TALL].chunks_exact(WIDE).enumerate() {
                let tile = tile(simd, [tall[0], tall[1], tall[2], tall[3]], [wide[0], wide[1]]);
                for (row, products) in (first..).zip(tile) {
                    for (column, product) in (before * WIDE..).zip(products) {
                        sums[(row, column)] += product;
                    }
                }
            }
        }
    }
}

#[expect(clippy::inline_always, reason = "part of a dispatch")]
#[inline(always)]
fn tile<S: Simd>(simd: S, tall: [&[S::f64s]; TALL], wide: [&[S::f64s]; WIDE]) -> [[f64; WIDE]; TALL] {
    let length = tall[0].len();
    // Equal lengths that the compiler can see let it drop the bounds checks.
    let (tall, wide) = (tall.map(|row| &row[..length]), wide.map(|row| &row[..length]));
    let mut sums = [[simd.splat_f64s(0.0); WIDE]; TALL];
    for at in 0..length {
        for (sums, left) in sums.iter_mut().zip(tall) {
            for (sum, right) in sums.iter_mut().zip(wide) {
                *sum = simd.mul_add_f64s(left[at], right[at], *sum);
            }
        }
    }
    sums.map(|sums| sums.map(|sum| simd.reduce_sum_f64s(sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers: every sum is exact in f64, in whatever order.
    fn part(rows: usize, columns: usize, salt: usize) -> Matrix {
        Matrix::from_fn(rows, columns, |row, column| ((row * 7 + column * 13 + salt * 5) % 11) as f64 - 5.0)
    }

    fn expected(joined: &Matrix) -> Matrix {
        Matrix::from_fn(joined.ncols(), joined.ncols(), |i, j| joined.column(i).dot(&joined.column(j)))
    }

    #[test]
    fn equals_every_single_inner_product() {
        for (length, ranks) in [(1, [1, 1]), (255, [3, 2]), (256, [4, 4]), (257, [5, 6]), (1_000, [8, 1])] {
            let parts = [part(length, ranks[0], 1), part(length, ranks[1], 2)];
            let joined = Matrix::from_columns(&parts.iter().flat_map(Matrix::column_iter).collect::<Vec<_>>());
            assert_eq!(gram(&parts, Vectors::Columns), expected(&joined), "columns of {length}");
            let turned = parts.map(|part| part.transpose());
            assert_eq!(gram(&turned, Vectors::Rows), expected(&joined), "rows of {length}");
        }
    }

    #[test]
    fn nothing_has_no_products() {
        assert_eq!(gram(&[], Vectors::Rows), Matrix::zeros(0, 0));
    }
}
