//! A matrix seen through a stride.

/// Steps of the reduction in a [`Line`].
pub(super) const LINE: usize = 8;

/// Some steps of a few rows of a left operand, row after row. A row's values lie side by side as they do in a row-major
/// matrix, so that packing one is copying, and the tile kernel reads one stream instead of one for each row.
pub(super) type Line<const ROWS: usize> = [[f32; LINE]; ROWS];

/// Elements of a cache line.
const CACHE_LINE: usize = 16;

/// A matrix inside a slice: rows `stride` elements apart, or the transpose of such a matrix.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a> View<'a> {
    /// A dense row-major matrix.
    pub(in crate::ops) fn dense(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// A row-major matrix whose rows start `stride` elements apart; `values` starts at its first element.
    pub(in crate::ops) fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { values, rows, columns, stride, transposed: false }
    }

    /// The transpose, without a copy.
    pub(in crate::ops) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Number of rows.
    pub(in crate::ops) fn rows(&self) -> usize {
        if self.transposed { self.columns } else { self.rows }
    }

    /// Number of columns.
    pub(in crate::ops) fn columns(&self) -> usize {
        if self.transposed { self.rows } else { self.columns }
    }

    /// The `count` rows from `first` on.
    pub(in crate::ops) fn row_range(self, first: usize, count: usize) -> Self {
        if self.transposed {
            Self { values: &self.values[first.min(self.values.len())..], columns: count, ..self }
        } else {
            Self { values: &self.values[(first * self.stride).min(self.values.len())..], rows: count, ..self }
        }
    }

    /// The `count` columns from `first` on.
    pub(in crate::ops) fn column_range(self, first: usize, count: usize) -> Self {
        self.transposed().row_range(first, count).transposed()
    }

    /// The stored rows.
    pub(in crate::ops) fn dense_rows(self) -> impl Iterator<Item = &'a [f32]> {
        (0..self.rows).map(move |row| &self.values[row * self.stride..][..self.columns])
    }

    /// Writes at most `ROWS` rows to `lines`; what is missing of the rows and of the last line keeps what it held.
    #[inline(always)]
    pub(super) fn write_lines<const ROWS: usize>(self, lines: &mut [Line<ROWS>]) {
        if self.transposed {
            self.turn_lines(lines);
        } else {
            self.copy_lines(lines);
        }
    }

    #[inline(always)]
    fn copy_lines<const ROWS: usize>(self, lines: &mut [Line<ROWS>]) {
        for (row, values) in self.dense_rows().take(ROWS).enumerate() {
            let (whole, rest) = values.as_chunks::<LINE>();
            for (line, values) in lines.iter_mut().zip(whole) {
                line[row] = *values;
            }
            if let Some(line) = lines.get_mut(whole.len()) {
                line[row][..rest.len()].copy_from_slice(rest);
            }
        }
    }

    /// The stored rows are the steps here.
    #[inline(always)]
    fn turn_lines<const ROWS: usize>(self, lines: &mut [Line<ROWS>]) {
        for (step, values) in self.dense_rows().enumerate() {
            let line = &mut lines[step / LINE];
            if let Some(values) = values.first_chunk::<ROWS>() {
                for row in 0..ROWS {
                    line[row][step % LINE] = values[row];
                }
            } else {
                for (line, value) in line.iter_mut().zip(values) {
                    line[step % LINE] = *value;
                }
            }
        }
    }

    /// Appends `self` to `packed` row after row, each padded with zeros to `width`.
    #[inline(always)]
    pub(super) fn pack(self, width: usize, packed: &mut Vec<f32>) {
        if self.transposed {
            self.pack_transposed(width, packed);
        } else {
            for row in 0..self.rows {
                self.pack_row(row, width, packed);
            }
        }
    }

    /// One row; copies of a fixed length are a few vector moves rather than a call.
    #[inline(always)]
    fn pack_row(self, row: usize, width: usize, packed: &mut Vec<f32>) {
        let values = &self.values[row * self.stride..][..self.columns];
        let (lines, rest) = values.as_chunks::<CACHE_LINE>();
        for line in lines {
            packed.extend_from_slice(line);
        }
        packed.extend_from_slice(rest);
        packed.resize(packed.len() + width - self.columns, 0.0);
    }

    /// Reads 16 elements (a cache line) of each stored row at a time and turns them in a buffer that stays in the
    /// first-level cache.
    #[inline(always)]
    fn pack_transposed(self, width: usize, packed: &mut Vec<f32>) {
        const WIDEST: usize = 64;
        assert!(width <= WIDEST, "panel of {width} columns");
        let mut buffer = [0.0; CACHE_LINE * WIDEST];
        for first in (0..self.columns).step_by(CACHE_LINE) {
            let line = CACHE_LINE.min(self.columns - first);
            for (group, column) in (0..self.rows).step_by(8).enumerate() {
                let count = 8.min(self.rows - column);
                let at = |row: usize| &self.values[(column + row) * self.stride + first..];
                let fits = line == CACHE_LINE && width >= group * 8 + count;
                if count == 8 && fits {
                    turn(std::array::from_fn(|row| whole(at(row))), width, &mut buffer[column..]);
                } else {
                    for row in 0..count {
                        for (depth, value) in at(row)[..line].iter().enumerate() {
                            buffer[depth * width + column + row] = *value;
                        }
                    }
                }
            }
            packed.extend_from_slice(&buffer[..line * width]);
        }
    }
}

/// The first line of some values; there must be one.
#[inline(always)]
fn whole(values: &[f32]) -> &[f32; CACHE_LINE] {
    values.first_chunk().unwrap_or(&[0.0; CACHE_LINE])
}

/// Writes the transpose of eight lines, its rows `width` apart.
#[inline(always)]
fn turn(rows: [&[f32; CACHE_LINE]; 8], width: usize, out: &mut [f32]) {
    for (depth, out) in out.chunks_mut(width).take(CACHE_LINE).enumerate() {
        if let Some(out) = out.first_chunk_mut::<8>() {
            for (value, row) in out.iter_mut().zip(rows) {
                *value = row[depth];
            }
        }
    }
}
