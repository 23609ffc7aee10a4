//! Images in memory as levels, and what a level means to a model.

use crate::images::Levels;

/// Images of one size.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pixels {
    /// Image `i` is `levels[i * size..(i + 1) * size]`, `[channels, height, width]`.
    levels: Vec<u8>,
    size: usize,
    /// For each channel the value of every level.
    values: Vec<Levels>,
}

impl Pixels {
    /// Images of `size` levels each.
    pub(super) fn new(images: &[Vec<u8>], size: usize, values: Vec<Levels>) -> Self {
        Self { levels: images.concat(), size, values }
    }

    /// Values of an image.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The values of some images, one after the other.
    pub(super) fn values(&self, rows: &[u32]) -> Vec<f32> {
        let mut values = Vec::with_capacity(rows.len() * self.size);
        let plane = (self.size / self.values.len().max(1)).max(1);
        for &row in rows {
            let image = &self.levels[row as usize * self.size..(row as usize + 1) * self.size];
            for (plane, meaning) in image.chunks(plane).zip(&self.values) {
                values.extend(plane.iter().map(|&level| meaning[usize::from(level)]));
            }
        }
        values
    }
}
