//! Squared distances between whole updates, from inner products of small matrices.
//!
//! `‖x_i - x_j‖² = <x_i, x_i> + <x_j, x_j> - 2 <x_i, x_j>`, where an update `x` is what it is compared by, side by side. `<B_i A_i, B_j A_j> = <B_iᵀ B_j, A_i A_jᵀ>`, so no product is formed: a pair of clients
//! costs `r² (d_in + d_out)` per module. The difference is good to about `1e-16 ‖x‖²`, a distance hence to `1e-8 ‖x‖`,
//! which is finer than what f32 factors resolve.

use fedlora_adapter::{HeadPolicy, TensorSource};
use rayon::prelude::*;

use crate::{
    AggregationError, Contribution, Updates,
    low_rank::{self, Matrix},
};

/// What two updates are compared by, besides the shared head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// The products `s·B·A`.
    Products,
    /// The products and the factors themselves.
    ProductsAndFactors,
}

/// `‖x_i - x_j‖²`, `n x n`, in client order; infinite where it is no number.
///
/// # Errors
/// An update that lacks a tensor or has one of another shape, a file that cannot be read.
pub(super) fn squared(updates: &Updates<'_>, parts: Parts) -> Result<Matrix, AggregationError> {
    let products = inner_products(updates, parts)?;
    let distance = |i: usize, j: usize| {
        let distance = products[(i, i)] + products[(j, j)] - 2.0 * products[(i, j)];
        // `max` alone would make NaN a distance of zero.
        if distance.is_finite() { distance.max(0.0) } else { f64::INFINITY }
    };
    Ok(Matrix::from_fn(updates.len(), updates.len(), |i, j| distance(i.max(j), i.min(j))))
}

/// `<x_i, x_j>` for `i >= j`; modules one after the other, so that the factors of one are in memory at a time and sums
/// have one order.
fn inner_products(updates: &Updates<'_>, parts: Parts) -> Result<Matrix, AggregationError> {
    let previous = updates.previous();
    let scale = previous.spec().scaling().powi(2);
    let mut sums = Matrix::zeros(updates.len(), updates.len());
    for (name, factors) in previous.modules() {
        let contributions = updates.module(name, factors)?;
        let pairs = contributions.par_iter().map(Pair::load).collect::<Result<Vec<_>, _>>();
        let pairs = pairs.map_err(|error| error.in_module(name))?;
        add(&mut sums, &pairs, |first, second| first.inner(second, scale, parts));
    }
    if updates.directive().head == HeadPolicy::Shared {
        for (name, tensor) in previous.head() {
            let sources = updates.head(name, tensor)?;
            let heads =
                sources.par_iter().map(|(_, source)| low_rank::transposed(source)).collect::<Result<Vec<_>, _>>()?;
            add(&mut sums, &heads, low_rank::inner);
        }
    }
    Ok(sums)
}

/// Adds `inner` of all pairs, the lower triangle. Each is one thread's work, so that its bits do not depend on their number.
fn add<T: Sync>(sums: &mut Matrix, values: &[T], inner: impl Fn(&T, &T) -> f64 + Sync) {
    let row = |(index, first): (usize, &T)| values[..=index].iter().map(|second| inner(first, second)).collect();
    let rows: Vec<Vec<f64>> = values.par_iter().enumerate().map(row).collect();
    for (i, row) in rows.into_iter().enumerate() {
        row.into_iter().enumerate().for_each(|(j, inner)| sums[(i, j)] += inner);
    }
}

/// One client's factors of a module.
struct Pair {
    /// `Aᵀ`, `d_in x r`; for VeRA `lambda_d`, `r x 1`.
    a_t: Matrix,
    /// `Bᵀ`, `r x d_out`; for VeRA `lambda_bᵀ`, `1 x d_out`.
    b_t: Matrix,
}

impl Pair {
    fn load(contribution: &Contribution<'_>) -> Result<Self, AggregationError> {
        let a_t = low_rank::transposed(&contribution.a)?;
        let is_vector = |source: &TensorSource<'_>| source.shape().len() == 1;
        let a_t = if is_vector(&contribution.a) { a_t.transpose() } else { a_t };
        Ok(Self { a_t, b_t: low_rank::transposed(&contribution.b)? })
    }

    fn inner(&self, other: &Self, scale: f64, parts: Parts) -> f64 {
        let b = &self.b_t * other.b_t.transpose();
        let a = self.a_t.tr_mul(&other.a_t);
        let products = scale * low_rank::inner(&b, &a);
        match parts {
            Parts::Products => products,
            // The traces are `<A_i, A_j>` and `<B_i, B_j>`.
            Parts::ProductsAndFactors => products + a.trace() + b.trace(),
        }
    }
}
