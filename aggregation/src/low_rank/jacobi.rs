//! Singular values and right singular vectors of a small matrix by one-sided Jacobi rotations (Hestenes 1958).
//!
//! Chosen over bidiagonalisation for three properties the server needs: the rotation is orthogonal to rounding
//! whatever the rank of the matrix, zero and repeated singular values included; small singular values keep their
//! relative accuracy; and an unconverged result would still be a valid change of basis, so there is no failure.

use super::Matrix;

/// Sweeps after which rotation stops; convergence is quadratic and takes about six.
const MAX_SWEEPS: usize = 60;

/// `M W` has orthogonal columns of lengths `singular_values`.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    /// `W`, orthogonal, `n x n`: the right singular vectors.
    pub(crate) vectors: Matrix,
    /// Descending, `n` of them.
    pub(crate) singular_values: Vec<f64>,
}

/// The rotation that makes the columns of `matrix` (`m x n`) orthogonal, longest first.
pub(crate) fn orthogonalise_columns(mut matrix: Matrix) -> Rotation {
    let scale = matrix.amax();
    let columns = matrix.ncols();
    let mut vectors = Matrix::identity(columns, columns);
    if scale > 0.0 {
        // Squares of entries near the ends of the f64 range would overflow or vanish.
        matrix /= scale;
        for _ in 0..MAX_SWEEPS {
            if !sweep(&mut matrix, &mut vectors) {
                break;
            }
        }
    }
    let lengths: Vec<f64> = matrix.column_iter().map(|column| column.norm() * scale).collect();
    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|&first, &second| lengths[second].total_cmp(&lengths[first]));
    Rotation {
        vectors: vectors.select_columns(&order),
        singular_values: order.into_iter().map(|column| lengths[column]).collect(),
    }
}

/// One pass over all pairs of columns; whether any of them was still oblique.
fn sweep(matrix: &mut Matrix, vectors: &mut Matrix) -> bool {
    let mut oblique = false;
    for first in 0..matrix.ncols() {
        for second in first + 1..matrix.ncols() {
            let (p, q) = (matrix.column(first), matrix.column(second));
            let (alpha, beta, gamma) = (p.norm_squared(), q.norm_squared(), p.dot(&q));
            if gamma.abs() <= f64::EPSILON * (alpha * beta).sqrt() || gamma.abs() < f64::MIN_POSITIVE {
                continue;
            }
            oblique = true;
            let zeta = (beta - alpha) / (2.0 * gamma);
            let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
            let cosine = tangent.hypot(1.0).recip();
            rotate(matrix, first, second, cosine, cosine * tangent);
            rotate(vectors, first, second, cosine, cosine * tangent);
        }
    }
    oblique
}

/// Columns `(p, q)` become `(c p - s q, s p + c q)`.
fn rotate(matrix: &mut Matrix, first: usize, second: usize, cosine: f64, sine: f64) {
    for row in 0..matrix.nrows() {
        let (p, q) = (matrix[(row, first)], matrix[(row, second)]);
        matrix[(row, first)] = cosine * p - sine * q;
        matrix[(row, second)] = sine * p + cosine * q;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_deficient_matrices_still_give_an_orthogonal_rotation() {
        // Rank 1, 5 x 4, plus an exactly zero column.
        let matrix = Matrix::from_fn(5, 4, |i, j| if j == 2 { 0.0 } else { (i as f64 + 1.0) * (j as f64 - 5.0) });
        let rotation = orthogonalise_columns(matrix.clone());
        let identity = rotation.vectors.tr_mul(&rotation.vectors);
        assert!((identity - Matrix::identity(4, 4)).amax() < 1e-14);
        assert!((rotation.singular_values[0] - matrix.norm()).abs() < 1e-12 * matrix.norm());
        assert!(rotation.singular_values[1] < 1e-13 * matrix.norm());
    }

    #[test]
    fn columns_become_orthogonal_and_descend() {
        let matrix = Matrix::from_fn(7, 5, |i, j| ((3 * i + 7 * j + i * j * j) % 11) as f64 - 5.0);
        let rotation = orthogonalise_columns(matrix.clone());
        let rotated = &matrix * &rotation.vectors;
        let gram = rotated.tr_mul(&rotated);
        let expected = Matrix::from_diagonal(&nalgebra::DVector::from_iterator(
            5,
            rotation.singular_values.iter().map(|value| value * value),
        ));
        assert!((gram - expected).amax() < 1e-13 * matrix.norm_squared());
        assert!(rotation.singular_values.is_sorted_by(|first, second| first >= second));
    }

    #[test]
    fn a_zero_matrix_is_left_alone() {
        let rotation = orthogonalise_columns(Matrix::zeros(6, 3));
        assert_eq!(rotation.vectors, Matrix::identity(3, 3));
        assert_eq!(rotation.singular_values, vec![0.0; 3]);
    }
}
