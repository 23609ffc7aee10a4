//! Products, orthonormal bases and singular values of tall, narrow matrices, in f64.
//!
//! A row-major `r x d` slice is, byte for byte, a column-major `d x r` matrix. So a factor is widened to f64 without
//! being transposed, and what this module calls `a_t` (`d_in x r`) is the stored `A`, `b_t` (`r x d_out`) the stored
//! `B`. Results go back the same way.

mod gram;
mod jacobi;

use fedlora_adapter::{AdapterError, Tensor, TensorSource};
use nalgebra::DMatrix;

pub(crate) use gram::{Vectors, gram};
pub(crate) use jacobi::{Rotation, orthogonalise_columns};

/// A matrix of f64, column-major.
pub(crate) type Matrix = DMatrix<f64>;

/// The stored row-major `rows x columns` tensor as the `columns x rows` matrix of the same memory order.
///
/// # Errors
/// A source that cannot be read.
pub(crate) fn transposed(source: &TensorSource<'_>) -> Result<Matrix, AdapterError> {
    let values = source.load()?;
    let rows = source.shape().first().copied().unwrap_or(1);
    let columns = values.len() / rows.max(1);
    Ok(Matrix::from_iterator(columns, rows, values.iter().copied().map(f64::from)))
}

/// The tensor whose row-major storage is `matrix`, rounded to f32: the inverse of [`transposed`].
///
/// # Errors
/// Never for matrices made here; the checked constructor says so.
pub(crate) fn to_tensor(matrix: &Matrix) -> Result<Tensor, AdapterError> {
    let values = matrix.iter().map(|&value| value as f32).collect();
    Tensor::new(vec![matrix.ncols(), matrix.nrows()], values)
}

/// Thin QR by Householder reflections: `Q` is `m x min(m, n)` with orthonormal columns whatever the rank, `R` upper.
pub(crate) fn thin_qr(matrix: Matrix) -> (Matrix, Matrix) {
    matrix.qr().unpack()
}

/// Only `R` of the thin QR; cheaper, and enough for singular values and right singular vectors.
pub(crate) fn thin_r(matrix: Matrix) -> Matrix {
    matrix.qr().unpack_r()
}

/// The matrices side by side; all have the same number of rows, and there is one at least.
pub(crate) fn beside(parts: &[Matrix]) -> Matrix {
    let columns = parts.iter().map(Matrix::ncols).sum();
    let rows = parts.first().map_or(0, Matrix::nrows);
    Matrix::from_iterator(rows, columns, parts.iter().flat_map(|part| part.iter().copied()))
}

/// The matrices one below the other; all have the same number of columns, and there is one at least.
pub(crate) fn below(parts: &[Matrix]) -> Matrix {
    let rows = parts.iter().map(Matrix::nrows).sum();
    let mut whole = Matrix::zeros(rows, parts.first().map_or(0, Matrix::ncols));
    let mut first = 0;
    for part in parts {
        whole.rows_mut(first, part.nrows()).copy_from(part);
        first += part.nrows();
    }
    whole
}

/// `sum(left ∘ right)`: the Frobenius inner product.
pub(crate) fn inner(left: &Matrix, right: &Matrix) -> f64 {
    left.dot(right)
}

/// Makes the entry of largest magnitude of each column positive, and returns the signs that were applied.
///
/// Singular vectors are defined up to sign; without a convention, logs and digests of equal runs on different
/// libraries differ. Of entries of equal magnitude the first decides.
pub(crate) fn fix_signs(matrix: &mut Matrix) -> Vec<f64> {
    let sign_of = |column: &[f64]| {
        let largest = column.iter().fold(0.0_f64, |best, &x| if x.abs() > best.abs() { x } else { best });
        if largest < 0.0 { -1.0 } else { 1.0 }
    };
    let mut signs = Vec::with_capacity(matrix.ncols());
    for mut column in matrix.column_iter_mut() {
        let sign = sign_of(column.as_slice());
        column *= sign;
        signs.push(sign);
    }
    signs
}
