//! Functions of one number in plain arithmetic, written so that the compiler turns loops over them into vector code.
//!
//! Only additions, multiplications, divisions and integer operations, never contracted: the same bits on every
//! machine, whatever the width of its vectors.

/// `eˣ` to 2 units in the last place, 0 below the smallest normal result. `x` must not exceed 88; what is not a number stays
/// so, or training that diverges would not be noticed.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer, which is left in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, of which the first has so few bits that its product with the integer is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Not `max`, which would make -87 of what is not a number.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = clamped - whole * LN_2_HIGH - whole * LN_2_LOW;
    // The Taylor series to the 7th power: the next term is below 2⁻²⁷ for |rest| ≤ ln 2 / 2.
    let mut series = 1.0 / 5040.0;
    for factorial in [720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        series = series * rest + 1.0 / factorial;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < -87.0 { 0.0 } else { series * power }
}

/// The standard normal distribution's `(Φ(x), φ(x))`, `Φ` to an absolute error of 1.5e-7.
///
/// Abramowitz and Stegun, 7.1.26, in the form that keeps the relative error small on the negative side.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;
    let size = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let bell = exp(-size * size);
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let mut series = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        series = series * t + coefficient;
    }
    let tail = 0.5 * series * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, FRAC_1_SQRT_2PI * bell)
}

/// Partial sums of a reduction: one for each lane of the widest vector, whatever this machine's width is.
const LANES: usize = 16;

/// The sum of `values`.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    reduce(values, 0.0, |total, value| total + value)
}

/// The sum of `e` to the power of each value less `shift`, which is at least as large as the largest.
#[inline(always)]
pub(super) fn sum_exp(values: &[f32], shift: f32) -> f32 {
    let (values, rest) = values.as_chunks::<LANES>();
    let mut totals = [0.0; LANES];
    for values in values {
        for (total, value) in totals.iter_mut().zip(values) {
            *total += exp(value - shift);
        }
    }
    for (total, value) in totals.iter_mut().zip(rest) {
        *total += exp(value - shift);
    }
    totals.iter().sum()
}

/// The largest of `values`, negative infinity for none.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    reduce(values, f32::NEG_INFINITY, f32::max)
}

/// The inner product of two slices of one length.
#[inline(always)]
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    let mut totals = [0.0; LANES];
    for (left, right) in left.iter().zip(right) {
        for ((total, left), right) in totals.iter_mut().zip(left).zip(right) {
            *total += left * right;
        }
    }
    for ((total, left), right) in totals.iter_mut().zip(left_rest).zip(right_rest) {
        *total += left * right;
    }
    totals.iter().sum()
}

#[inline(always)]
fn reduce(values: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let (values, rest) = values.as_chunks::<LANES>();
    let mut totals = [start; LANES];
    for values in values {
        for (total, value) in totals.iter_mut().zip(values) {
            *total = combine(*total, *value);
        }
    }
    for (total, value) in totals.iter_mut().zip(rest) {
        *total = combine(*total, *value);
    }
    totals.into_iter().fold(start, combine)
}
