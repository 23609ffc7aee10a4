//! The losses that a discrete distribution may have.
//!
//! They are multiples of one interval, dense near 0 and sparse further out, like floating-point numbers: 128 to 256 cells per
//! octave. A cell of width `w` at a loss `l` widens the distribution there by at most `w²/4`; with `w <= l/128` that is
//! small beside the `l²` that the loss itself puts in. What one interval everywhere would cost is paid only where losses are
//! of that size. Halving the interval splits cells and moves none, so it can only tighten the bound.

use super::Rounding;

/// Cells per octave, at least.
const PER_OCTAVE: f64 = 128.0;
/// A cell is at most this wide, over the noise multiplier. The density of losses falls by at most a factor `e^9s` per unit of
/// loss where anything is left of it, so that a cell raises `δ` by at most `(9 * 0.008)²/8`, 7e-4 of itself,
/// and `ε` by less than that over the fall.
const WIDEST: f64 = 0.008;
/// Beyond this many cells in all the widest get wider: losses in the thousands are not worth their memory.
const MOST_CELLS: f64 = 131_072.0;

/// Which multiples of the interval are in use, as indices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// The unit of indices, in nats.
    interval: f64,
    /// The narrowest cell, a power of two.
    narrowest: f64,
    /// The widest cell, a power of two.
    widest: f64,
}

impl Grid {
    /// For losses of magnitude up to `reach` with this noise multiplier.
    ///
    /// Rounded down, a loss errs by all of its cell and not by the square of it, so cells are narrow everywhere.
    pub(crate) fn new(interval: f64, sigma: f64, reach: f64, rounding: Rounding) -> Self {
        let affordable = power_of_two_below(2.0 * reach / (interval * MOST_CELLS));
        match rounding {
            Rounding::Up => {
                let widest = power_of_two_below(WIDEST / (sigma * interval)).max(affordable);
                Self { interval, narrowest: 1.0, widest }
            }
            Rounding::Down => {
                let width = (affordable / 16.0).max(1.0);
                Self { interval, narrowest: width, widest: width }
            }
        }
    }

    /// The cell around a loss, as the indices of its ends.
    pub(crate) fn cell(&self, loss: f64) -> (f64, f64) {
        let index = loss / self.interval;
        let width = self.width(index.abs());
        let low = (index / width).floor() * width;
        (low, low + width)
    }

    /// The end of the cell that begins at an index.
    pub(crate) fn next(&self, index: f64) -> f64 {
        // Towards 0 a cell is as wide as its outer end says, which belongs to the cell beyond: look just inside.
        index + self.width((index + 0.5).abs())
    }

    /// Width of the cell at a distance from 0.
    fn width(&self, distance: f64) -> f64 {
        power_of_two_below(distance / PER_OCTAVE).clamp(self.narrowest, self.widest)
    }
}

/// The largest power of two that is at most `x`, at least 1.
fn power_of_two_below(x: f64) -> f64 {
    // A float without its mantissa.
    if x < 2.0 { 1.0 } else { f64::from_bits(x.to_bits() & 0x7FF0_0000_0000_0000) }
}
