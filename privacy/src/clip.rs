//! Bounding what one unit can do to a sum.
//!
//! Everything that is trained counts as one vector `g` per unit; it is scaled by `min(1, C/‖g‖₂)` (Abadi et al., Deep
//! Learning with Differential Privacy, arXiv 1607.00133, Algorithm 1). Clipping every tensor by the same `C` on its own
//! would let a unit move the sum by `C√tensors`; [`LayerBounds`] says what its variant costs.
//!
//! A gradient that is not finite contributes zero: it cannot be scaled, and to stop the training would tell everybody
//! that the unit is there. It is counted for those who look after the client, and the count must not leave it.

mod adaptive;
mod layers;

use serde::{Deserialize, Serialize};

pub use adaptive::AdaptiveClip;
pub use layers::LayerBounds;

use crate::PrivacyError;

/// A clipped vector may be longer than its bound by this share: products are rounded to f32, by a share of `2⁻²⁴`, and
/// norms of up to `2³²` values to f64, by a share of `2⁻²¹`. Noise is sized for it.
pub const CLIP_SLACK: f64 = 1e-6;

/// The largest norm `C` that one unit's contribution may have. Positive and finite.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct ClipBound(f64);

impl ClipBound {
    /// A checked bound.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] unless the bound is positive and finite.
    pub fn new(bound: f64) -> Result<Self, PrivacyError> {
        if bound.is_finite() && bound > 0.0 {
            return Ok(Self(bound));
        }
        Err(PrivacyError::Parameter { name: "clip-bound", expected: "a finite number above 0", found: bound })
    }

    /// The bound as a number.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for ClipBound {
    type Error = PrivacyError;

    fn try_from(bound: f64) -> Result<Self, PrivacyError> {
        Self::new(bound)
    }
}

impl From<ClipBound> for f64 {
    fn from(bound: ClipBound) -> Self {
        bound.0
    }
}

/// What clipping did to one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The vector was within the bound.
    Kept,
    /// The vector was scaled down to the bound.
    Scaled,
    /// The norm was not a number from 0 up: the vector was set to zero.
    Dropped,
}

/// A unit's norm before clipping, and what came of it. Private data, both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipped {
    /// Norm of the whole vector; not finite when any of its values was not.
    pub norm: f64,
    /// What was done.
    pub outcome: Outcome,
}

/// Clips one unit's gradients in place; all slices together are one vector.
///
/// Afterwards the norm is at most `C · (1 + CLIP_SLACK)`. A vector within the bound keeps every bit.
pub fn clip(parts: &mut [&mut [f32]], bound: ClipBound) -> Clipped {
    let squared = squared_norm(parts.iter().map(|part| &**part));
    let (factor, outcome) = judge(squared, bound);
    scale(parts, factor, outcome);
    Clipped { norm: squared.sqrt(), outcome }
}

/// The number that clips a unit's gradients, for engines that compute norms without making the gradients.
///
/// `None` when the squared norm is not a finite number from 0 up: such a unit must contribute zero. Multiplying by 0 is
/// not enough, since 0 · NaN is NaN. The bound holds as well as the norm does: an engine whose norms may be too small by
/// a share `e` says so to [`GaussianNoise::with_extra_sensitivity`](crate::GaussianNoise::with_extra_sensitivity), `e·C`.
#[must_use]
pub fn factor(squared_norm: f64, bound: ClipBound) -> Option<f32> {
    match judge(squared_norm, bound) {
        (_, Outcome::Dropped) => None,
        (factor, _) => Some(factor),
    }
}

/// The factors of a batch. Private data: neither the factors nor the counts may leave the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// One per unit, from 0 to 1; 0 for units that are to be left out.
    pub factors: Vec<f32>,
    /// How many units were scaled down.
    pub clipped: usize,
    /// How many units have no usable norm.
    pub dropped: usize,
}

/// [`factor`] for a batch of f32 or f64 squared norms.
///
/// Where [`Factors::dropped`] is not 0, gradients of the units with factor 0 must be replaced, not multiplied, by zero.
#[must_use]
pub fn factors<T: Copy + Into<f64>>(squared_norms: &[T], bound: ClipBound) -> Factors {
    let mut batch = Factors { factors: Vec::with_capacity(squared_norms.len()), clipped: 0, dropped: 0 };
    for squared in squared_norms {
        let (factor, outcome) = judge((*squared).into(), bound);
        batch.factors.push(factor);
        batch.clipped += usize::from(outcome == Outcome::Scaled);
        batch.dropped += usize::from(outcome == Outcome::Dropped);
    }
    batch
}

/// Factor and outcome; a rounding error below zero in the caller's sum is as unusable as NaN, so it is dropped too.
fn judge(squared_norm: f64, bound: ClipBound) -> (f32, Outcome) {
    if !(squared_norm.is_finite() && squared_norm >= 0.0) {
        return (0.0, Outcome::Dropped);
    }
    let norm = squared_norm.sqrt();
    if norm <= bound.0 { (1.0, Outcome::Kept) } else { (round_down(bound.0 / norm), Outcome::Scaled) }
}

/// Never above `x`: near the smallest f32, rounding to nearest could double a factor, and the bound with it.
fn round_down(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) > x { nearest.next_down() } else { nearest }
}

/// `Σ x²` in f64, where squares of finite f32 cannot overflow: the sum is finite exactly when all values are.
///
/// Eight running sums let the compiler use vector instructions, and always the same ones.
fn squared_norm<'a>(parts: impl Iterator<Item = &'a [f32]>) -> f64 {
    let mut sums = [0.0_f64; 8];
    for part in parts {
        let mut chunks = part.chunks_exact(8);
        for chunk in &mut chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(*x) * f64::from(*x);
            }
        }
        for (sum, x) in sums.iter_mut().zip(chunks.remainder()) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    sums.iter().sum()
}

fn scale(parts: &mut [&mut [f32]], factor: f32, outcome: Outcome) {
    for part in parts {
        match outcome {
            Outcome::Kept => {}
            Outcome::Scaled => part.iter_mut().for_each(|x| *x *= factor),
            Outcome::Dropped => part.fill(0.0),
        }
    }
}

#[cfg(test)]
mod tests;
