//! The correction that minimises `1 - cos(dW*, (B̄ + dB) Ā) + lambda ‖dB‖²`, by descent on `r x r` matrices.
//!
//! Every gradient is a combination of the columns of the defect `D` and of `B̄`, so `dB = D S + B̄ T` throughout, and with
//! the Gram of `[D B̄]` all norms and inner products follow from the `2r x r` coordinates `Z = [S; T]`. Departure: the
//! paper takes 1000 SGD steps of length 0.01, which stop short of the minimum by an amount that depends on the scale of
//! the factors. Here the gradient is divided by the curvature `G / ‖P‖² + 2 lambda I`, and a step is halved until the
//! objective falls by a quarter of what the slope promises (Armijo): it never ascends and converges in tens of steps.

use crate::low_rank::{Matrix, inner};

const MAX_STEPS: usize = 500;
/// A step that would have to be shorter than this is no step.
const SHORTEST_STEP: f64 = 1e-12;
/// Share of the largest curvature that is added to all, so that directions that `Ā` lacks have one.
const LEAST_CURVATURE: f64 = 1e-12;

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
        for _ in 0..MAX_STEPS {
            let Some((next, value)) = self.step(&z, objective) else { break };
            (z, objective) = (next, value);
            watch(objective);
        }
        z
    }

    /// The next point and its objective; `None` where no step makes it smaller.
    fn step(&self, z: &Matrix, objective: f64) -> Option<(Matrix, f64)> {
        let gradient = self.gradient(z)?;
        let direction = &gradient * self.curvature(z)?.try_inverse()?;
        let slope = self.inner(&gradient, &direction);
        let mut length = 1.0;
        while length > SHORTEST_STEP {
            let candidate = z - &direction * length;
            match self.objective(&candidate) {
                Some(value) if value < objective && value <= objective - 0.25 * length * slope => {
                    return Some((candidate, value));
                }
                _ => length *= 0.5,
            }
        }
        None
    }

    /// `G / ‖P‖² + 2 lambda I`: the second derivative without the part in which the length of `P` changes.
    fn curvature(&self, z: &Matrix) -> Option<Matrix> {
        let (_, product_norm) = self.cosine(z)?;
        let along = self.gram / (product_norm * product_norm);
        let least = 2.0 * self.lambda + LEAST_CURVATURE * along.trace();
        Some(&along + Matrix::identity(along.nrows(), along.ncols()) * least)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A problem of `d_out = 6`, `r = 2` whose defect is a good part of its product, and its parts.
    fn parts() -> (Matrix, Matrix, Matrix, f64) {
        let a = Matrix::from_fn(2, 5, |i, j| ((3 * i + 2 * j) % 5) as f64 - 1.7);
        let mean_b_t = Matrix::from_fn(2, 6, |i, j| ((5 * i + 3 * j) % 7) as f64 - 2.9);
        let change = Matrix::from_fn(6, 5, |i, j| ((i * j + 2 * i + j) % 9) as f64 - 3.8);
        let target = mean_b_t.tr_mul(&a) + change;
        let gram = &a * a.transpose();
        let defect_t = ((&target - mean_b_t.tr_mul(&a)) * a.transpose()).transpose();
        (gram, mean_b_t, defect_t, target.norm())
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (gram, mean_b_t, defect_t, norm) = parts();
        let problem = Problem::new(&gram, &mean_b_t, &defect_t, norm, 0.03);
        let z = Matrix::from_fn(4, 2, |i, j| 0.01 * (i as f64 - 2.0 * j as f64));
        let gradient = problem.gradient(&z).expect("no product is zero");
        // Coordinates are in the basis [D B̄]; a change of one changes the objective by <gradient, basis column>.
        let slopes = &problem.basis * &gradient;
        // Central differences are off by step² times the third derivative, and by epsilon / step.
        let step = 1e-5;
        for (index, &slope) in slopes.iter().enumerate() {
            let shifted = |by: f64| {
                let mut z = z.clone();
                z[index] += by;
                problem.objective(&z).expect("no product is zero")
            };
            let difference = (shifted(step) - shifted(-step)) / (2.0 * step);
            assert!((difference - slope).abs() < 1e-6 * slopes.amax(), "{difference} against {slope}");
        }
    }

    #[test]
    fn the_objective_and_the_gradient_are_the_dense_ones() {
        let a = Matrix::from_fn(2, 5, |i, j| ((3 * i + 2 * j) % 5) as f64 - 1.7);
        let (gram, mean_b_t, defect_t, norm) = parts();
        let change = Matrix::from_fn(6, 5, |i, j| ((i * j + 2 * i + j) % 9) as f64 - 3.8);
        let ideal = mean_b_t.tr_mul(&a) + change;
        let lambda = 0.03;
        let problem = Problem::new(&gram, &mean_b_t, &defect_t, norm, lambda);
        let z = Matrix::from_fn(4, 2, |i, j| 0.01 * (i as f64 - 2.0 * j as f64));
        let unfold = |z: &Matrix| defect_t.tr_mul(&z.rows(0, 2)) + mean_b_t.tr_mul(&z.rows(2, 2));
        let correction = unfold(&z);
        let product = (mean_b_t.transpose() + &correction) * &a;
        let cosine = product.dot(&ideal) / (product.norm() * ideal.norm());
        let dense = 1.0 - cosine + lambda * correction.norm_squared();
        // Sums of 30 terms of size 10 in f64.
        assert!((problem.objective(&z).expect("no product is zero") - dense).abs() < 1e-13);
        let towards = &ideal / (product.norm() * ideal.norm()) - &product * (cosine / product.norm_squared());
        let dense = towards * a.transpose() * -1.0 + correction * (2.0 * lambda);
        let latent = unfold(&problem.gradient(&z).expect("no product is zero"));
        assert!((latent - &dense).amax() < 1e-13 * dense.amax().max(1.0));
    }

    #[test]
    fn every_step_lowers_the_objective_and_the_last_is_stationary() {
        let (gram, mean_b_t, defect_t, norm) = parts();
        let problem = Problem::new(&gram, &mean_b_t, &defect_t, norm, 0.01);
        let mut seen = vec![problem.objective(&Matrix::zeros(4, 2)).expect("no product is zero")];
        let z = problem.descend(|objective| seen.push(objective));
        assert!(seen.len() > 2);
        assert!(seen.is_sorted_by(|earlier, later| later < earlier));
        let gradient = |z: &Matrix| {
            let gradient = problem.gradient(z).expect("no product is zero");
            problem.inner(&gradient, &gradient).sqrt()
        };
        // The objective resolves steps of about 1e-16, hence gradients of about their root.
        assert!(gradient(&z) < 1e-6 * gradient(&Matrix::zeros(4, 2)));
    }

    #[test]
    fn a_product_of_zero_has_no_cosine_and_is_left_alone() {
        let (gram, mean_b_t, defect_t, _) = parts();
        let zero = Matrix::zeros(2, 6);
        assert_eq!(Problem::new(&gram, &mean_b_t, &defect_t, 0.0, 0.01).solve(), zero);
        assert_eq!(Problem::new(&gram, &zero, &zero, 1.0, 0.01).solve(), zero);
    }
}
