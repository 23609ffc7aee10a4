//! The correction that minimises `‖(B̄ + dB) Ā - dW*‖² + mu ‖dB‖²`, in closed form.

use nalgebra::SymmetricEigen;

use crate::low_rank::Matrix;

/// `dBᵀ = (G + mu I)^-1 Dᵀ` with `mu = lambda tr(G) / r`, for `G = Ā Āᵀ` (`r x r`) and the defect `Dᵀ` (`r x d_out`).
///
/// Where `G + mu I` is singular to rounding its pseudo-inverse stands in: such directions of `Ā` do not change the
/// product, and the shortest correction leaves them alone.
pub(super) fn solve(gram: &Matrix, defect_t: &Matrix, lambda: f64) -> Matrix {
    let rank = gram.nrows() as f64;
    let mu = lambda * gram.trace() / rank;
    let eigen = SymmetricEigen::new(gram.clone());
    let largest = eigen.eigenvalues.amax() + mu;
    let inverse = eigen.eigenvalues.map(|value| {
        let shifted = value.max(0.0) + mu;
        if shifted > rank * f64::EPSILON * largest { shifted.recip() } else { 0.0 }
    });
    let mut projected = eigen.eigenvectors.tr_mul(defect_t);
    projected.row_iter_mut().zip(inverse.iter()).for_each(|(mut row, &inverse)| row *= inverse);
    eigen.eigenvectors * projected
}
