//! A picture in memory.

use std::sync::Arc;

use super::resize::{Filter, resize};

/// A grey or coloured picture of 256 levels; copies share its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    channels: usize,
    height: usize,
    width: usize,
    /// `[height, width, channels]`.
    pixels: Arc<[u8]>,
}

impl Image {
    /// A picture of `[height, width, channels]` levels with one channel (grey) or three (red, green, blue); none if
    /// these are other numbers of channels or levels, or if there is no level at all.
    #[must_use]
    pub fn new(channels: usize, height: usize, width: usize, pixels: impl Into<Arc<[u8]>>) -> Option<Self> {
        let pixels = pixels.into();
        let count = height.checked_mul(width)?.checked_mul(channels)?;
        let fits = matches!(channels, 1 | 3) && count == pixels.len() && count > 0;
        fits.then_some(Self { channels, height, width, pixels })
    }

    /// Number of rows of pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of pixels of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// 1 for grey, 3 for red, green and blue.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The levels, `[height, width, channels]`.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The same picture in grey or in colours.
    pub(super) fn with_channels(&self, channels: usize) -> Self {
        let pixels: Vec<u8> = match (self.channels, channels) {
            (1, 3) => self.pixels.iter().flat_map(|&level| [level; 3]).collect(),
            (3, 1) => self.pixels.as_chunks::<3>().0.iter().copied().map(luminance).collect(),
            _ => return self.clone(),
        };
        Self { channels, pixels: pixels.into(), ..*self }
    }

    /// The picture in another size.
    pub(super) fn resized(&self, height: usize, width: usize, filter: Filter) -> Self {
        let pixels = resize(&self.pixels, [self.height, self.width, self.channels], [height, width], filter);
        Self { height, width, pixels: pixels.into(), ..*self }
    }

    /// The square in the middle; `side` is at most height and width. Of an odd border the halves are rounded to even,
    /// as `torchvision` does.
    pub(super) fn centre(&self, side: usize) -> Self {
        let start = |length: usize| ((length - side) as f64 / 2.0).round_ties_even() as usize;
        let (top, left) = (start(self.height), start(self.width));
        let row = |row: usize| {
            let first = (row * self.width + left) * self.channels;
            self.pixels[first..first + side * self.channels].iter().copied()
        };
        let pixels: Vec<u8> = (top..top + side).flat_map(row).collect();
        Self { height: side, width: side, pixels: pixels.into(), ..*self }
    }

    /// The levels channel by channel, `[channels, height, width]`.
    pub(super) fn planes(&self) -> Vec<u8> {
        let plane = |channel: usize| self.pixels.iter().skip(channel).step_by(self.channels).copied();
        (0..self.channels).flat_map(plane).collect()
    }
}

/// ITU-R 601 in the whole numbers that Pillow uses.
fn luminance([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grey_and_three_colours_of_the_right_number_of_levels_are_pictures() {
        assert!(Image::new(1, 2, 3, vec![0; 6]).is_some());
        assert!(Image::new(3, 2, 3, vec![0; 18]).is_some());
        for (channels, height, width, levels) in [(2, 1, 1, 2), (1, 2, 3, 5), (1, 0, 3, 0), (1, usize::MAX, 2, 4)] {
            assert!(Image::new(channels, height, width, vec![0; levels]).is_none());
        }
    }

    #[test]
    fn colours_become_planes_and_grey_becomes_three_equal_channels() {
        let coloured = Image::new(3, 1, 2, vec![255, 0, 0, 10, 20, 30]).unwrap();
        assert_eq!(coloured.planes(), [255, 10, 0, 20, 0, 30]);
        // 0.299 · 255 = 76.2, and 0.299 · 10 + 0.587 · 20 + 0.114 · 30 = 18.2.
        assert_eq!(coloured.with_channels(1).pixels(), [76, 18]);
        let grey = Image::new(1, 1, 2, vec![7, 9]).unwrap();
        assert_eq!(grey.with_channels(3).planes(), [7, 9, 7, 9, 7, 9]);
    }

    #[test]
    fn the_centre_of_an_odd_border_is_where_torchvision_cuts_it() {
        let picture = Image::new(1, 3, 5, (0..15).collect::<Vec<u8>>()).unwrap();
        // Borders of 1 row and 3 columns: halves of 0.5 and 1.5 are rounded to 0 and 2.
        assert_eq!(picture.centre(2).pixels(), [2, 3, 7, 8]);
    }
}
