//! The right operand of a product, in the order in which the tile kernel reads it.

use pulp::{Arch, Simd, WithSimd};

use super::view::View;

/// Panels of a few vectors of columns ([`vectors`]), each stored row after row; the last panel is only as wide as
/// needed.
#[derive(Debug)]
pub(in crate::ops) struct Packed {
    panels: Vec<Panel>,
    depth: usize,
    columns: usize,
    width: usize,
}

/// One panel. It starts at a cache line, so that no vector load crosses one.
#[derive(Debug)]
struct Panel {
    values: Vec<f32>,
    start: usize,
    width: usize,
}

impl Packed {
    /// Packs `matrix`.
    pub(in crate::ops) fn new(matrix: View<'_>) -> Self {
        let Shape { lanes, width } = Arch::new().dispatch(Widths);
        let panels = (0..matrix.columns()).step_by(width).map(|first| Panel::new(matrix, first, width, lanes));
        Self { panels: panels.collect(), depth: matrix.rows(), columns: matrix.columns(), width }
    }

    /// The matrix times a number.
    pub(in crate::ops) fn scaled(mut self, factor: f32) -> Self {
        for value in self.panels.iter_mut().flat_map(|panel| &mut panel.values) {
            *value *= factor;
        }
        self
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// First column, number of columns and padded width of each panel, with its rows `first..first + count`.
    pub(super) fn panels(&self, first: usize, count: usize) -> impl Iterator<Item = (usize, usize, &[f32])> {
        self.panels.iter().enumerate().map(move |(index, panel)| {
            let column = index * self.width;
            let values = &panel.values[panel.start + first * panel.width..][..count * panel.width];
            (column, self.width.min(self.columns - column), values)
        })
    }
}

impl Panel {
    fn new(matrix: View<'_>, first: usize, widest: usize, lanes: usize) -> Self {
        let columns = widest.min(matrix.columns() - first);
        let width = columns.next_multiple_of(lanes);
        let mut values: Vec<f32> = Vec::with_capacity(matrix.rows() * width + CACHE_LINE / size_of::<f32>());
        let start = values.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE / size_of::<f32>());
        values.resize(start, 0.0);
        let part = matrix.column_range(first, columns);
        Arch::new().dispatch(
            #[inline(always)]
            || part.pack(width, &mut values),
        );
        Self { values, start, width }
    }
}

/// Bytes.
const CACHE_LINE: usize = 64;

/// Elements of a vector register and of a panel on this machine.
struct Shape {
    lanes: usize,
    width: usize,
}

struct Widths;

impl WithSimd for Widths {
    type Output = Shape;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Shape {
        Shape { lanes: S::F32_LANES, width: vectors::<S>() * S::F32_LANES }
    }
}

/// Vectors side by side in a panel. With eight or six rows of them the sums take 24 of 32 or 12 of 16 registers,
/// which leaves enough for the operands: one register too few costs half the speed.
#[inline(always)]
pub(super) const fn vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 3 } else { 2 }
}
