//! The discrete Gaussian distribution: integers `x` with probability proportional to `exp(−x²/2s²)`.

use rand::Rng;

use super::coins;

/// Largest scale for which all arithmetic fits its integers: `2s²` in a u64.
pub(super) const MAX_SCALE: u64 = (1 << 31) - 1;

/// A discrete Gaussian with an integer scale `s`, from 1 to [`MAX_SCALE`].
#[derive(Debug, Clone, Copy)]
pub(super) struct DiscreteGaussian {
    scale: u64,
}

impl DiscreteGaussian {
    /// None outside the range of scales.
    pub(super) fn new(scale: u64) -> Option<Self> {
        (1..=MAX_SCALE).contains(&scale).then_some(Self { scale })
    }

    /// One number, with exactly the probability that the distribution gives it.
    ///
    /// Canonne, Kamath, Steinke, arXiv 2004.00010, Algorithm 3: a discrete Laplace number `y` of scale `t` is accepted
    /// with probability `exp(−(|y| − s²/t)²/2s²)`. They take `t = ⌊s⌋ + 1`; any `t` gives the distribution, and with an
    /// integer `s`, `t = s` makes every fraction one of small integers. About three of four are accepted.
    pub(super) fn sample(self, rng: &mut impl Rng) -> i64 {
        let double_square = 2 * self.scale * self.scale;
        loop {
            let size = self.laplace_size(rng);
            let negative = rng.next_u32() & 1 == 1;
            // Otherwise zero would come twice as often as it should.
            if negative && size == 0 {
                continue;
            }
            let (whole, part) = square_in_units(size.abs_diff(self.scale), double_square);
            if coins::decay_by(whole, rng) && coins::decay(part, double_square, rng) {
                // A size beyond i64 has probability exp(−2³²) and more decays ahead than anybody can wait for.
                let size = i64::try_from(size).unwrap_or(i64::MAX);
                return if negative { -size } else { size };
            }
        }
    }

    /// A whole number `x ≥ 0` with probability proportional to `exp(−x/s)`: their Algorithm 2 before its sign.
    fn laplace_size(self, rng: &mut impl Rng) -> u64 {
        loop {
            let low = coins::below(self.scale, rng);
            if !coins::decay(low, self.scale, rng) {
                continue;
            }
            let mut high = 0;
            while coins::decay_by_one(rng) {
                high += 1;
            }
            return low.saturating_add(self.scale.saturating_mul(high));
        }
    }
}

/// `distance²` as so many whole units and a part of one.
fn square_in_units(distance: u64, unit: u64) -> (u64, u64) {
    // Nearly always; 128-bit divisions take longer than all the rest of a draw.
    if let Some(square) = distance.checked_mul(distance) {
        return (square / unit, square % unit);
    }
    let (square, unit) = (u128::from(distance) * u128::from(distance), u128::from(unit));
    // The remainder of a division by a u64 fits; so many whole decays never come true, whatever their number.
    (u64::try_from(square / unit).unwrap_or(u64::MAX), (square % unit) as u64)
}
