//! Squared distances between whole updates, from inner products of small matrices.
//!
//! `‖P_i - P_j‖² = <P_i, P_i> + <P_j, P_j> - 2 <P_i, P_j>` with `<B_i A_i, B_j A_j> = <B_iᵀ B_j, A_i A_jᵀ>`, so no product is
//! formed: a pair of clients costs `r² (d_in + d_out)` per module. The difference is good to about `1e-16 ‖P‖²`, a
//! distance hence to `1e-8 ‖P‖`, which is finer than what f32 factors resolve.

use fedlora_adapter::{HeadPolicy, TensorSource};
use rayon::prelude::*;

use crate::{
    AggregationError, Contribution, Updates,
    low_rank::{self, Matrix},
};

/// How far two updates are from each other, besides their shared heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// `‖P_i - P_j‖²`, where `P = s·B·A`; blind to the gauge. Of LoRA-XS, whose `A` has orthonormal rows, the distance of `R`.
    Products,
    /// The same plus `s² ‖(B_i - B_j)(A_i - A_j)‖²`: a quarter of that matrix is what the product loses where the factors of
    /// the two are averaged.
    ProductsAndLoss,
}

/// Squared distances over all modules and the shared head, `n x n`, in client order; infinite where they are no numbers.
///
/// Modules are taken one after the other, so that the factors of one are in memory at a time and sums have one order.
///
/// # Errors
/// An update that lacks a tensor or has one of another shape, a file that cannot be read.
pub(super) fn squared(updates: &Updates<'_>, measure: Measure) -> Result<Matrix, AggregationError> {
    let previous = updates.previous();
    let spec = previous.spec();
    let mut sums = Matrix::zeros(updates.len(), updates.len());
    for (name, factors) in previous.modules() {
        let scale = spec.scaling_of(&spec.modules[name]).powi(2);
        let contributions = updates.module(name, factors)?;
        let modules = contributions.par_iter().map(Module::load).collect::<Result<Vec<_>, _>>();
        let modules = modules.map_err(|error| error.in_module(name))?;
        add(&mut sums, &modules, |first, second| scale * first.squared_distance(second, measure));
        updates.release();
    }
    if updates.directive().head == HeadPolicy::Shared {
        let sent = previous.head().iter().filter(|(name, _)| !spec.is_constant(name));
        for (name, tensor) in sent {
            let sources = updates.head(name, tensor)?;
            let load = |(_, source): &(f64, TensorSource<'_>)| low_rank::transposed(source);
            let heads = sources.par_iter().map(load).collect::<Result<Vec<_>, _>>()?;
            add(&mut sums, &heads, |first, second| (first - second).norm_squared());
            updates.release();
        }
    }
    Ok(sums)
}

/// Adds the distances of all pairs. Each is one thread's work, so that its bits do not depend on the number of threads.
fn add<T: Sync>(sums: &mut Matrix, values: &[T], distance: impl Fn(&T, &T) -> f64 + Sync) {
    let row = |(i, first): (usize, &T)| values[..i].iter().map(|second| distance(first, second)).collect();
    let rows: Vec<Vec<f64>> = values.par_iter().enumerate().map(row).collect();
    for (i, row) in rows.into_iter().enumerate() {
        for (j, distance) in row.into_iter().enumerate() {
            let distance = if distance.is_finite() { distance } else { f64::INFINITY };
            sums[(i, j)] += distance;
            sums[(j, i)] += distance;
        }
    }
}

/// One client's factors of a module.
struct Module {
    /// `Aᵀ`, `d_in x r`; for VeRA `lambda_d`, `r x 1`.
    a_t: Matrix,
    /// `Bᵀ`, `r x d_out`; for VeRA `lambda_bᵀ`, `1 x d_out`.
    b_t: Matrix,
    /// `A Aᵀ`.
    a_gram: Matrix,
    /// `Bᵀ B`.
    b_gram: Matrix,
}

impl Module {
    fn load(contribution: &Contribution<'_>) -> Result<Self, AggregationError> {
        let a_t = low_rank::transposed(&contribution.a)?;
        let is_vector = contribution.a.shape().len() == 1;
        let a_t = if is_vector { a_t.transpose() } else { a_t };
        let b_t = low_rank::transposed(&contribution.b)?;
        let (a_gram, b_gram) = (a_t.tr_mul(&a_t), &b_t * b_t.transpose());
        Ok(Self { a_t, b_t, a_gram, b_gram })
    }

    /// Without the scale; of updates that are the same it may be a rounding below 0.
    fn squared_distance(&self, other: &Self, measure: Measure) -> f64 {
        let a = self.a_t.tr_mul(&other.a_t);
        let b = &self.b_t * other.b_t.transpose();
        let norms = low_rank::inner(&self.b_gram, &self.a_gram) + low_rank::inner(&other.b_gram, &other.a_gram);
        let products = norms - 2.0 * low_rank::inner(&b, &a);
        if measure == Measure::Products {
            return products;
        }
        let a_gram = &self.a_gram + &other.a_gram - &a - a.transpose();
        let b_gram = &self.b_gram + &other.b_gram - &b - b.transpose();
        products + low_rank::inner(&b_gram, &a_gram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(a: &Matrix, b: &Matrix) -> Module {
        let (a_t, b_t) = (a.transpose(), b.transpose());
        Module { a_gram: a * &a_t, b_gram: &b_t * b, a_t, b_t }
    }

    #[test]
    fn distances_are_those_of_dense_products() {
        let a = |k: usize| Matrix::from_fn(2, 5, move |i, j| ((3 * i + (2 + k) * j + k) % 7) as f64 - 2.7);
        let b = |k: usize| Matrix::from_fn(4, 2, move |i, j| (((1 + k) * i + 3 * j) % 5) as f64 - 1.8);
        let (first, second) = (module(&a(0), &b(0)), module(&a(1), &b(1)));
        let products = (b(0) * a(0) - b(1) * a(1)).norm_squared();
        let loss = ((b(0) - b(1)) * (a(0) - a(1))).norm_squared();
        // Sums of some tens of terms of size 100 in f64.
        let found = |measure| first.squared_distance(&second, measure);
        assert!((found(Measure::Products) - products).abs() < 1e-12 * products);
        assert!((found(Measure::ProductsAndLoss) - products - loss).abs() < 1e-12 * (products + loss));
        let itself = module(&a(0), &b(0));
        assert!(first.squared_distance(&itself, Measure::ProductsAndLoss) < 1e-12 * products);
    }

    #[test]
    fn what_is_no_number_is_no_neighbour() {
        let mut sums = Matrix::zeros(3, 3);
        add(&mut sums, &[1.0, f64::NAN, 3.0], |first, second| (first - second) * (first - second));
        assert_eq!((sums[(0, 1)], sums[(2, 1)]), (f64::INFINITY, f64::INFINITY));
        assert_eq!((sums[(0, 2)].to_bits(), sums[(2, 0)].to_bits()), (4.0_f64.to_bits(), 4.0_f64.to_bits()));
    }
}
