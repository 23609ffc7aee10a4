//! The tile kernel: a few rows of the output, two or three vectors wide, held in registers over the reduction.

use pulp::{Simd, WithSimd};

use super::packed::Packed;
use super::view::{LINE, Line, View};

/// Steps of the reduction between two visits of an output tile: a panel, 16 KiB with vectors of eight, stays in a
/// first-level cache of 32 KiB while the rows pass by. With 384 steps it does not, which costs 8 % of the speed.
const DEPTH_BLOCK: usize = 256;

/// The widest panel of any machine, in elements.
const WIDEST: usize = 16 * 3;

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) enum Start<'a> {
    /// Nothing: the output is overwritten.
    Zero,
    /// The same vector in every row.
    Bias(&'a [f32]),
    /// What the output holds.
    Output,
}

impl Start<'_> {
    /// What a product over nothing leaves in rows of `columns` elements.
    fn write(self, out: &mut [f32], columns: usize) {
        match self {
            Self::Zero => out.fill(0.0),
            Self::Bias(bias) => out.chunks_exact_mut(columns.max(1)).for_each(|row| row.copy_from_slice(bias)),
            Self::Output => {}
        }
    }
}

/// `out = start + left · right` for one block of rows.
pub(in crate::ops) struct Multiply<'a> {
    pub(in crate::ops) left: View<'a>,
    pub(in crate::ops) right: &'a Packed,
    pub(in crate::ops) start: Start<'a>,
    pub(in crate::ops) out: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.run::<S, 8>(simd) } else { self.run::<S, 6>(simd) }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S) {
        let (rows, depth, columns) = (self.left.rows(), self.right.depth(), self.right.columns());
        debug_assert_eq!(depth, self.left.columns());
        if depth == 0 {
            // The loop over the reduction, whose first round begins with the start, has no round.
            return self.start.write(self.out, columns);
        }
        let (tiles, longest) = (rows.div_ceil(ROWS), DEPTH_BLOCK.min(depth).div_ceil(LINE));
        let mut packed = vec![[[0.0; LINE]; ROWS]; tiles * longest];
        for first in (0..depth).step_by(DEPTH_BLOCK) {
            let count = DEPTH_BLOCK.min(depth - first);
            let length = count.div_ceil(LINE);
            let lines = &mut packed[..tiles * length];
            let left = self.left.column_range(first, count);
            for (row, lines) in (0..rows).step_by(ROWS).zip(lines.chunks_exact_mut(length)) {
                left.row_range(row, ROWS.min(rows - row)).write_lines(lines);
            }
            let start = if first == 0 { self.start } else { Start::Output };
            for (column, width, right) in self.right.panels(first, count) {
                let place = Place { start, column, width, stride: columns };
                match right.len() / (count * S::F32_LANES) {
                    1 => panel::<S, ROWS, 1>(simd, lines, right, place, self.out),
                    2 => panel::<S, ROWS, 2>(simd, lines, right, place, self.out),
                    _ => panel::<S, ROWS, 3>(simd, lines, right, place, self.out),
                }
            }
        }
    }
}

/// Where a panel of the output lies.
#[derive(Clone, Copy)]
struct Place<'a> {
    start: Start<'a>,
    column: usize,
    width: usize,
    stride: usize,
}

/// All tiles of one panel.
#[inline(always)]
fn panel<S: Simd, const ROWS: usize, const WIDE: usize>(
    simd: S,
    left: &[Line<ROWS>],
    right: &[f32],
    place: Place<'_>,
    out: &mut [f32],
) {
    let (right, _) = S::as_simd_f32s(right);
    let (right, _) = right.as_chunks::<WIDE>();
    let tiles = left.chunks_exact(right.len().div_ceil(LINE)).zip(out.chunks_mut(place.stride * ROWS));
    for (left, out) in tiles {
        let mut sums = [[simd.splat_f32s(0.0); WIDE]; ROWS];
        match place.start {
            Start::Zero => {}
            Start::Bias(bias) => sums = [load::<S, WIDE>(simd, &bias[place.column..][..place.width]); ROWS],
            Start::Output => {
                for (sums, row) in sums.iter_mut().zip(out.chunks_exact(place.stride)) {
                    *sums = load::<S, WIDE>(simd, &row[place.column..][..place.width]);
                }
            }
        }
        let sums = tile::<S, ROWS, WIDE>(simd, left, right, sums);
        for (sums, row) in sums.iter().zip(out.chunks_exact_mut(place.stride)) {
            store::<S, WIDE>(simd, sums, &mut row[place.column..][..place.width]);
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const WIDE: usize>(
    simd: S,
    left: &[Line<ROWS>],
    right: &[[S::f32s; WIDE]],
    mut sums: [[S::f32s; WIDE]; ROWS],
) -> [[S::f32s; WIDE]; ROWS] {
    // Whole lines have a length that the compiler knows; the last one is filled up on the left only.
    let (whole, rest) = right.as_chunks::<LINE>();
    for (left, right) in left.iter().zip(whole) {
        for (step, right) in right.iter().enumerate() {
            add::<S, ROWS, WIDE>(simd, left, step, right, &mut sums);
        }
    }
    if let Some(left) = left.get(whole.len()) {
        for (step, right) in rest.iter().enumerate() {
            add::<S, ROWS, WIDE>(simd, left, step, right, &mut sums);
        }
    }
    sums
}

/// One step of the reduction.
#[inline(always)]
fn add<S: Simd, const ROWS: usize, const WIDE: usize>(
    simd: S,
    left: &Line<ROWS>,
    step: usize,
    right: &[S::f32s; WIDE],
    sums: &mut [[S::f32s; WIDE]; ROWS],
) {
    for row in 0..ROWS {
        let factor = simd.splat_f32s(left[row][step]);
        for wide in 0..WIDE {
            sums[row][wide] = simd.mul_add_e_f32s(factor, right[wide], sums[row][wide]);
        }
    }
}

#[inline(always)]
fn load<S: Simd, const WIDE: usize>(simd: S, row: &[f32]) -> [S::f32s; WIDE] {
    let (vectors, _) = S::as_simd_f32s(row);
    if let Some(vectors) = vectors.first_chunk() {
        return *vectors;
    }
    let mut padded = [0.0; WIDEST];
    padded[..row.len()].copy_from_slice(row);
    let (vectors, _) = S::as_simd_f32s(&padded);
    vectors.first_chunk().copied().unwrap_or([simd.splat_f32s(0.0); WIDE])
}

#[inline(always)]
fn store<S: Simd, const WIDE: usize>(_simd: S, sums: &[S::f32s; WIDE], row: &mut [f32]) {
    let (vectors, _) = S::as_mut_simd_f32s(row);
    if let Some(vectors) = vectors.first_chunk_mut() {
        *vectors = *sums;
        return;
    }
    let mut padded = [0.0; WIDEST];
    let (vectors, _) = S::as_mut_simd_f32s(&mut padded);
    if let Some(vectors) = vectors.first_chunk_mut() {
        *vectors = *sums;
    }
    row.copy_from_slice(&padded[..row.len()]);
}
