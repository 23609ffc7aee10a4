//! The correction that minimises `1 - cos(dW*, (B̄ + dB) Ā) + lambda ‖dB‖²`, by gradient descent on `r x r` matrices.
//!
//! Every gradient is a combination of the columns of the defect `D` and of `B̄`, so `dB = D S + B̄ T` throughout, and with
//! the Gram of `[D B̄]` all norms and inner products follow from the `2r x r` coordinates `Z = [S; T]`. The paper takes
//! 1000 SGD steps of a fixed length; here a step grows while the objective falls fast enough and shrinks otherwise
//! (Armijo), which reaches the minimum in fewer steps and never ascends.

use crate::low_rank::{Matrix, inner};

const MAX_STEPS: usize = 1000;
/// First step length, the paper's.
const FIRST_STEP: f64 = 0.01;
/// A step that would have to be shorter than this is no step.
const SHORTEST_STEP: f64 = 1e-12;

/// One module's problem, in coordinates.
pub(super) struct Problem<'a> {
    gram: &'a Matrix,
    mean_b_t: &'a Matrix,
    defect_t: &'a Matrix,
    /// `[D B̄]ᵀ [D B̄]`, `2r x 2r`.
    basis: Matrix,
    /// Coordinates of `B̄`.
    mean: Matrix,
    /// Coordinates of `dW* Āᵀ = D + B̄ G`.
    target: Matrix,
    /// `‖dW*‖`.
    target_norm: f64,
    lambda: f64,
}

impl<'a> Problem<'a> {
    pub(super) fn new(
        gram: &'a Matrix,
        mean_b_t: &'a Matrix,
        defect_t: &'a Matrix,
        target_norm: f64,
        lambda: f64,
    ) -> Self {
        let rank = gram.nrows();
        let mut both_t = Matrix::zeros(2 * rank, mean_b_t.ncols());
        both_t.rows_mut(0, rank).copy_from(defect_t);
        both_t.rows_mut(rank, rank).copy_from(mean_b_t);
        let basis = &both_t * both_t.transpose();
        let (mut mean, mut target) = (Matrix::zeros(2 * rank, rank), Matrix::zeros(2 * rank, rank));
        mean.rows_mut(rank, rank).fill_with_identity();
        target.rows_mut(0, rank).fill_with_identity();
        target.rows_mut(rank, rank).copy_from(gram);
        Self { gram, mean_b_t, defect_t, basis, mean, target, target_norm, lambda }
    }

    /// `dBᵀ`, `r x d_out`.
    pub(super) fn solve(&self) -> Matrix {
        let rank = self.gram.nrows();
        let z = self.descend(|_| {});
        z.rows(0, rank).tr_mul(self.defect_t) + z.rows(rank, rank).tr_mul(self.mean_b_t)
    }

    /// Coordinates of the minimiser; `watch` sees the objective after each step.
    fn descend(&self, mut watch: impl FnMut(f64)) -> Matrix {
        let rank = self.gram.nrows();
        let mut z = Matrix::zeros(2 * rank, rank);
        let Some(mut objective) = self.objective(&z) else { return z };
        let mut step = FIRST_STEP;
        for _ in 0..MAX_STEPS {
            let Some(gradient) = self.gradient(&z) else { break };
            let slope = self.inner(&gradient, &gradient);
            let next = loop {
                let candidate = &z - &gradient * step;
                match self.objective(&candidate) {
                    Some(value) if value < objective && value <= objective - 0.5 * step * slope => {
                        break Some((candidate, value));
                    }
                    _ if step < SHORTEST_STEP => break None,
                    _ => step *= 0.5,
                }
            };
            let Some((candidate, value)) = next else { break };
            (z, objective) = (candidate, value);
            watch(objective);
            step *= 2.0;
        }
        z
    }

    /// `1 - cos + lambda ‖dB‖²`; `None` where the cosine is not defined, because a product is zero.
    fn objective(&self, z: &Matrix) -> Option<f64> {
        let (cosine, _) = self.cosine(z)?;
        Some(1.0 - cosine + self.lambda * self.inner(z, z))
    }

    /// `-(dW* Āᵀ / (‖P‖ ‖dW*‖) - cos X G / ‖P‖²) + 2 lambda dB` with `P = X Ā`, `X = B̄ + dB`, in coordinates.
    fn gradient(&self, z: &Matrix) -> Option<Matrix> {
        let (cosine, product_norm) = self.cosine(z)?;
        let towards = &self.target / (product_norm * self.target_norm);
        let along = (z + &self.mean) * self.gram * (cosine / (product_norm * product_norm));
        Some(along - towards + z * (2.0 * self.lambda))
    }

    /// `cos(dW*, P)` and `‖P‖`.
    fn cosine(&self, z: &Matrix) -> Option<(f64, f64)> {
        let x = z + &self.mean;
        let product_norm = self.inner(&x, &(&x * self.gram)).max(0.0).sqrt();
        let scale = product_norm * self.target_norm;
        (scale > 0.0).then(|| (self.inner(&x, &self.target) / scale, product_norm))
    }

    /// Inner product of two `d_out x r` matrices given by their coordinates.
    fn inner(&self, left: &Matrix, right: &Matrix) -> f64 {
        inner(left, &(&self.basis * right))
    }
}
