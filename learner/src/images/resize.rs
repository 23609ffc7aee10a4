//! Resizing as Pillow's `Image.resize` does it: one filter along rows, then one along columns, in whole numbers of 22
//! binary places, each pass rounded to levels. Each pass gives Pillow's levels; Pillow 13 takes the columns first for some
//! sizes, which can change a level by one.

/// Binary places of a weight: a sum of 8-bit levels times weights stays within 32 bits.
const PLACES: u32 = 22;

/// How much a pixel counts by its distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// A triangle.
    Bilinear,
    /// Cubic convolution (Keys 1981) with `a = -0.5`.
    Bicubic,
}

/// The pixels that make one pixel of the result.
#[derive(Debug)]
struct Window {
    start: usize,
    weights: Vec<i64>,
}

/// A picture `[height, width, channels]` as `[new height, new width, channels]`.
pub(super) fn resize(pixels: &[u8], from: [usize; 3], to: [usize; 2], filter: Filter) -> Vec<u8> {
    let [height, width, channels] = from;
    let [new_height, new_width] = to;
    let rows = along(pixels, width, channels, new_width, filter);
    along(&rows, height, new_width * channels, new_height, filter)
}

/// Makes `length` steps of `inner` levels each into `new_length`, over and over.
fn along(levels: &[u8], length: usize, inner: usize, new_length: usize, filter: Filter) -> Vec<u8> {
    if length == new_length {
        return levels.to_vec();
    }
    let windows = windows(length, new_length, filter);
    let mut result = Vec::with_capacity(levels.len() / length * new_length);
    for block in levels.chunks_exact(length * inner) {
        for Window { start, weights } in &windows {
            for place in 0..inner {
                let taps = block[start * inner + place..].iter().step_by(inner);
                let sum: i64 = weights.iter().zip(taps).map(|(weight, &level)| weight * i64::from(level)).sum();
                result.push(((sum + (1 << (PLACES - 1))) >> PLACES).clamp(0, 255) as u8);
            }
        }
    }
    result
}

/// For each pixel of the result, which pixels count and how much. Reducing makes the filter wider.
fn windows(length: usize, new_length: usize, filter: Filter) -> Vec<Window> {
    let step = length as f64 / new_length as f64;
    let widening = step.max(1.0);
    let reach = filter.support() * widening;
    let window = |place: usize| {
        let centre = (place as f64 + 0.5) * step;
        // The casts cut off towards zero, as C's do, and negative starts become 0.
        let start = (centre - reach + 0.5) as usize;
        let end = ((centre + reach + 0.5) as usize).min(length);
        let weight = |pixel: usize| filter.weight((pixel as f64 - centre + 0.5) / widening);
        let weights: Vec<f64> = (start..end).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let whole = |weight: f64| (weight / total * f64::from(1 << PLACES)).round() as i64;
        Window { start, weights: weights.into_iter().map(whole).collect() }
    };
    (0..new_length).map(window).collect()
}

impl Filter {
    /// Distance beyond which nothing counts.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_averages_with_a_triangle_and_doubling_interpolates() {
        // Each pixel of half the size reaches one beyond its own two: weights 3, 3, 1 of 7 at the edges.
        assert_eq!(resize(&[0, 80, 160, 240], [1, 4, 1], [1, 2], Filter::Bilinear), [57, 183]);
        assert_eq!(resize(&[0, 100], [1, 2, 1], [1, 4], Filter::Bilinear), [0, 25, 75, 100]);
    }

    #[test]
    fn a_flat_picture_stays_flat_in_any_size() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for to in [[1, 1], [3, 11], [9, 2]] {
                assert!(resize(&[77; 5 * 7 * 3], [5, 7, 3], to, filter).iter().all(|&level| level == 77));
            }
        }
    }
}
