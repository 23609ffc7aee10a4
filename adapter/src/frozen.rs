//! What some kinds take from a frozen weight: leading orthonormal columns (OLoRA), leading singular directions (LoRA-XS)
//! and the lengths of its rows (DoRA).

mod svd;

use crate::{AdapterError, LoraFactors, ModuleSpec, Tensor};

pub use svd::leading_svd;

/// A column counts as one that depends on those before it below this share of its own length: of f32 values nothing
/// better can be said.
const DEPENDENT: f64 = 1e-6;

/// The first `r` columns of `Q` and rows of `R` of the thin QR of a frozen weight `W0`, `d_out x d_in`: OLoRA's first `B`,
/// `d_out x r`, and `A`, `r x d_in` (arXiv 2406.01775, section 3).
///
/// The diagonal of `R` is positive. Signs cancel in the product `B·A`, which so is the same whichever library made it. A
/// column of `W0` that depends on those before it adds no direction: its column of `B` and row of `A` are 0.
///
/// # Errors
/// A weight of another shape than the module.
pub fn leading_qr(weight: &Tensor, module: &ModuleSpec, rank: usize) -> Result<LoraFactors, AdapterError> {
    let ModuleSpec { d_in, d_out, .. } = *module;
    check_shape(weight, module)?;
    let rank = rank.min(d_in).min(d_out);
    let weight = weight.values();
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(rank);
    for column in 0..rank {
        let vector = (0..d_out).map(|row| f64::from(weight[row * d_in + column])).collect();
        let vector = direction(vector, &basis, DEPENDENT);
        basis.push(vector);
    }
    let mut a = vec![0.0_f64; rank * d_in];
    for (q, row_of_a) in basis.iter().zip(a.chunks_exact_mut(d_in)) {
        for (along, row) in q.iter().zip(weight.chunks_exact(d_in)) {
            row_of_a.iter_mut().zip(row).for_each(|(sum, &value)| *sum += along * f64::from(value));
        }
    }
    let a = Tensor::new(vec![rank, d_in], a.into_iter().map(|value| value as f32).collect())?;
    Ok(LoraFactors { a, b: Tensor::from_fn(&[d_out, rank], |index| basis[index % rank][index / rank] as f32) })
}

/// `W0 - s·B·A` of OLoRA's first factors: the base that is left to adapt, so that training starts at `W0`.
///
/// # Errors
/// As [`leading_qr`].
pub fn residual_weight(
    weight: &Tensor,
    module: &ModuleSpec,
    rank: usize,
    scaling: f64,
) -> Result<Tensor, AdapterError> {
    let LoraFactors { a, b } = leading_qr(weight, module, rank)?;
    let rank = a.as_ref().rows();
    let mut values = weight.values().to_vec();
    for (row, left) in values.chunks_exact_mut(module.d_in).zip(b.values().chunks_exact(rank.max(1))) {
        for (column, value) in row.iter_mut().enumerate() {
            let product = |(k, &left): (usize, &f32)| f64::from(left) * f64::from(a.values()[k * module.d_in + column]);
            let sum: f64 = left.iter().enumerate().map(product).sum();
            *value = (f64::from(*value) - scaling * sum) as f32;
        }
    }
    Tensor::new(weight.shape().to_vec(), values)
}

/// Lengths of the rows of a frozen weight, one for each output: DoRA's first magnitudes, `d_out` (arXiv 2402.09353, eq. 5;
/// the paper's columns are the rows of a weight that is stored `d_out x d_in`).
///
/// # Errors
/// A weight of another shape than the module.
pub fn row_lengths(weight: &Tensor, module: &ModuleSpec) -> Result<Tensor, AdapterError> {
    check_shape(weight, module)?;
    let length = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt() as f32;
    Tensor::new(vec![module.d_out], weight.values().chunks_exact(module.d_in).map(length).collect())
}

/// The unit vector along what of `vector` is orthogonal to an orthonormal basis; 0 where that is below the share
/// `dependent` of its length.
fn direction(mut vector: Vec<f64>, basis: &[Vec<f64>], dependent: f64) -> Vec<f64> {
    let length = dot(&vector, &vector).sqrt();
    // Gram-Schmidt twice is as good as Householder.
    for previous in basis.iter().chain(basis) {
        let along = dot(previous, &vector);
        vector.iter_mut().zip(previous).for_each(|(value, part)| *value -= along * part);
    }
    let rest = dot(&vector, &vector).sqrt();
    let scale = if rest > dependent * length { rest.recip() } else { 0.0 };
    vector.into_iter().map(|value| value * scale).collect()
}

fn check_shape(weight: &Tensor, module: &ModuleSpec) -> Result<(), AdapterError> {
    weight.as_ref().check("frozen weight", &[module.d_out, module.d_in])
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: ModuleSpec = ModuleSpec::new(7, 5);

    fn weight() -> Tensor {
        // Sines of squares: those of the indices themselves would make a matrix of rank 2.
        Tensor::from_fn(&[5, 7], |index| (0.37 * (index * index) as f32 + 0.3).sin())
    }

    fn product(factors: &LoraFactors, row: usize, column: usize) -> f64 {
        let rank = factors.a.shape()[0];
        (0..rank)
            .map(|k| {
                f64::from(factors.b.values()[row * rank + k]) * f64::from(factors.a.values()[k * MODULE.d_in + column])
            })
            .sum()
    }

    #[test]
    fn columns_are_orthonormal_rows_are_triangular_and_all_of_them_are_the_weight() {
        let factors = leading_qr(&weight(), &MODULE, 5).unwrap();
        let b = |row: usize, k: usize| f64::from(factors.b.values()[row * 5 + k]);
        for (i, j) in (0..5).flat_map(|i| (0..5).map(move |j| (i, j))) {
            let inner: f64 = (0..5).map(|row| b(row, i) * b(row, j)).sum();
            // Five products of numbers below one, each rounded to f32.
            assert!((inner - f64::from(u8::from(i == j))).abs() < 5.0 * f64::from(f32::EPSILON));
        }
        for (k, column) in (0..5).flat_map(|k| (0..k).map(move |column| (k, column))) {
            assert!(factors.a.values()[k * 7 + column].abs() < 8.0 * f32::EPSILON);
        }
        assert!((0..5).all(|k| factors.a.values()[k * 7 + k] > 0.0));
        for (index, &value) in weight().values().iter().enumerate() {
            assert!(
                (product(&factors, index / 7, index % 7) - f64::from(value)).abs() < 16.0 * f64::from(f32::EPSILON)
            );
        }
    }

    #[test]
    fn what_is_left_and_the_first_product_are_the_weight() {
        for rank in [1, 3] {
            let factors = leading_qr(&weight(), &MODULE, rank).unwrap();
            let rest = residual_weight(&weight(), &MODULE, rank, 2.0).unwrap();
            for (index, &value) in weight().values().iter().enumerate() {
                let whole = f64::from(rest.values()[index]) + 2.0 * product(&factors, index / 7, index % 7);
                assert!((whole - f64::from(value)).abs() < 4.0 * f64::from(f32::EPSILON));
            }
        }
    }

    #[test]
    fn a_column_that_depends_on_others_adds_no_direction() {
        let twice = Tensor::from_fn(&[5, 7], |index| (index / 7 + 1) as f32 * (index % 7 + 1) as f32);
        let factors = leading_qr(&twice, &MODULE, 3).unwrap();
        assert!((1..3).all(|k| (0..5).all(|row| factors.b.values()[row * 3 + k] == 0.0)));
        assert!(factors.a.values()[7..].iter().all(|&value| value == 0.0));
    }

    #[test]
    fn lengths_are_those_of_rows() {
        let weight = Tensor::new(vec![2, 2], vec![3.0, 4.0, 0.0, 2.0]).unwrap();
        let module = ModuleSpec::new(2, 2);
        assert_eq!(row_lengths(&weight, &module).unwrap().values(), [5.0, 2.0]);
        assert!(matches!(row_lengths(&weight, &MODULE), Err(AdapterError::WrongShape { .. })));
    }
}
