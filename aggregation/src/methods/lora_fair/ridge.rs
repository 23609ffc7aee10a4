//! The correction that minimises `‖(B̄ + dB) Ā - dW*‖² + mu ‖dB‖²`, in closed form.

use crate::low_rank::{self, Matrix, Rotation};

/// `dBᵀ = (G + mu I)^-1 Dᵀ` with `mu = lambda tr(G) / r`, for `G = Ā Āᵀ` (`r x r`) and the defect `Dᵀ` (`r x d_out`).
///
/// Where `G + mu I` is singular to the precision of stored factors its pseudo-inverse stands in. A direction that `Ā` hardly
/// has would need a huge correction for a small change of the product, and rounding that to f32 would undo more.
pub(super) fn solve(gram: &Matrix, defect_t: &Matrix, lambda: f64) -> Matrix {
    let rank = gram.nrows() as f64;
    let mu = lambda * gram.trace() / rank;
    // G is symmetric and has no negative eigenvalues, so its right singular vectors are its eigenvectors.
    let Rotation { vectors, singular_values } = low_rank::orthogonalise_columns(gram.clone());
    let largest = singular_values.first().map_or(0.0, |value| value + mu);
    let mut projected = vectors.tr_mul(defect_t);
    for (mut row, value) in projected.row_iter_mut().zip(singular_values) {
        let shifted = value + mu;
        row *= if shifted > rank * f64::from(f32::EPSILON) * largest { shifted.recip() } else { 0.0 };
    }
    vectors * projected
}
