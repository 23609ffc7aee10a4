//! A bound for every layer.

use super::{ClipBound, Clipped, Outcome, clip, squared_norm};
use crate::PrivacyError;

/// Bounds `C_l`, one per layer. The whole contribution is at most `‖(C_1, …, C_L)‖₂` long.
///
/// Noise is the same for every value and sized for that total. Better than one bound only when layers' norms differ so
/// much that the small ones would drown.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerBounds(Vec<ClipBound>);

impl LayerBounds {
    /// Bounds in the order in which the layers come.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] for no bounds at all, or so large ones that their total is infinite.
    pub fn new(bounds: Vec<ClipBound>) -> Result<Self, PrivacyError> {
        ClipBound::new(total(&bounds))?;
        Ok(Self(bounds))
    }

    /// The bounds.
    #[must_use]
    pub fn bounds(&self) -> &[ClipBound] {
        &self.0
    }

    /// Sensitivity of the sum over all layers, which the noise is to be sized for.
    #[must_use]
    pub fn total(&self) -> ClipBound {
        ClipBound(total(&self.0))
    }

    /// Clips one unit's gradients in place, every slice to its layer's bound.
    ///
    /// One layer that is not finite drops the whole unit: its other layers come from the same broken computation.
    ///
    /// # Errors
    /// [`PrivacyError::Layers`] unless there are as many slices as bounds; nothing is changed then.
    pub fn clip(&self, layers: &mut [&mut [f32]]) -> Result<Vec<Clipped>, PrivacyError> {
        if layers.len() != self.0.len() {
            return Err(PrivacyError::Layers { expected: self.0.len(), found: layers.len() });
        }
        if squared_norm(layers.iter().map(|layer| &**layer)).is_finite() {
            return Ok(layers.iter_mut().zip(&self.0).map(|(layer, bound)| clip(&mut [layer], *bound)).collect());
        }
        let norm = |layer: &[f32]| squared_norm(std::iter::once(layer)).sqrt();
        let dropped = |layer: &mut [f32]| {
            let clipped = Clipped { norm: norm(layer), outcome: Outcome::Dropped };
            layer.fill(0.0);
            clipped
        };
        Ok(layers.iter_mut().map(|layer| dropped(layer)).collect())
    }
}

fn total(bounds: &[ClipBound]) -> f64 {
    // Scaling by the largest keeps squares of tiny and of huge bounds within range.
    let largest = bounds.iter().fold(0.0, |largest: f64, bound| largest.max(bound.0));
    let squares: f64 = bounds.iter().map(|bound| (bound.0 / largest).powi(2)).sum();
    largest * squares.sqrt()
}
