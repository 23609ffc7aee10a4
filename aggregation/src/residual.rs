//! How far a new global product is from the mean of the clients' products, without forming either.
//!
//! With `D_k = B_k - B̄` and `E_k = A_k - Ā`, the mean product is `dW* = B̄Ā + C`, where `C = sum p_k D_k E_k` is the
//! covariance of the factors. So `B A - dW* = (B - B̄) A + B̄ (A - Ā) - C`: a sum of low-rank terms that are each as small as the
//! difference itself. Squared norms are inner products of `r x r` Grams, `<X Y, U V> = <Xᵀ U, Y Vᵀ>`, and subtracting
//! them costs digits only where terms truly cancel: the relative floor is about the square root of the f64 epsilon,
//! 1.5e-8, times the size of `C`, instead of times the size of `dW*`.

use std::ops::Add;

use fedlora_adapter::{AdapterSpec, LoraFactors, Side, TensorSource};

use crate::{
    AggregationError, Contribution,
    low_rank::{self, Matrix},
    mean::weighted_mean_f64,
};

/// Floating-point operations that one round's residual may cost.
const MAX_OPERATIONS: f64 = 1e9;

/// Squared Frobenius norms; they add up over modules.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Squares {
    /// `‖B·A - dW*‖²`.
    pub(crate) error: f64,
    /// `‖dW*‖²`.
    pub(crate) reference: f64,
}

impl Squares {
    /// The ratio of the norms; 0 where nothing was learned and nothing lost.
    pub(crate) fn relative(self) -> f64 {
        if self.error <= 0.0 { 0.0 } else { (self.error / self.reference).sqrt() }
    }
}

impl Add for Squares {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { error: self.error + other.error, reference: self.reference + other.reference }
    }
}

/// Whether the residual of this many LoRA updates is worth its cost: two Grams of all clients' columns per module.
pub(crate) fn is_affordable(spec: &AdapterSpec, clients: usize) -> bool {
    let columns = (clients * spec.rank) as f64;
    let widths: f64 = spec.modules.values().map(|module| (module.d_in + module.d_out) as f64).sum();
    columns * columns * widths <= MAX_OPERATIONS
}

/// The squares of one module's LoRA factors.
///
/// # Errors
/// A source that cannot be read.
pub(crate) fn measure(contributions: &[Contribution<'_>], result: &LoraFactors) -> Result<Squares, AggregationError> {
    let moments = Moments::new(contributions)?;
    let a_t = low_rank::transposed(&TensorSource::Memory(result.a.as_ref()))?;
    let b_t = low_rank::transposed(&TensorSource::Memory(result.b.as_ref()))?;
    // (B - B̄) A + B̄ (A - Ā), as one product of rank 2r.
    let left_t = stack_rows(&(&b_t - &moments.mean_b_t), &moments.mean_b_t);
    let right_t = stack_columns(&a_t, &(&a_t - &moments.mean_a_t));
    let shift = product_inner(&left_t, &right_t, &left_t, &right_t);
    let covariance = moments.covariance_norm_squared();
    let error = shift - 2.0 * moments.inner_with_covariance(&left_t, &right_t) + covariance;
    Ok(Squares { error: error.max(0.0), reference: moments.product_norm_squared() })
}

/// Means of the factors, and the clients' deviations from them.
pub(crate) struct Moments {
    /// `Āᵀ`, `d_in x r`.
    pub(crate) mean_a_t: Matrix,
    /// `B̄ᵀ`, `r x d_out`.
    pub(crate) mean_b_t: Matrix,
    deviations: Vec<Deviation>,
}

struct Deviation {
    share: f64,
    /// `E_kᵀ`, `d_in x r`.
    a_t: Matrix,
    /// `D_kᵀ`, `r x d_out`.
    b_t: Matrix,
}

impl Moments {
    pub(crate) fn new(contributions: &[Contribution<'_>]) -> Result<Self, AggregationError> {
        let (mean_a_t, mean_b_t) = means(contributions)?;
        let deviations = contributions
            .iter()
            .map(|contribution| {
                Ok(Deviation {
                    share: contribution.share,
                    a_t: low_rank::transposed(&contribution.a)? - &mean_a_t,
                    b_t: low_rank::transposed(&contribution.b)? - &mean_b_t,
                })
            })
            .collect::<Result<_, AggregationError>>()?;
        Ok(Self { mean_a_t, mean_b_t, deviations })
    }

    /// `‖dW*‖² = ‖B̄Ā‖² + 2<B̄Ā, C> + ‖C‖²`.
    pub(crate) fn product_norm_squared(&self) -> f64 {
        let (b_t, a_t) = (&self.mean_b_t, &self.mean_a_t);
        let mean_product = product_inner(b_t, a_t, b_t, a_t);
        (mean_product + 2.0 * self.inner_with_covariance(b_t, a_t) + self.covariance_norm_squared()).max(0.0)
    }

    /// `<L R, C>` for `L` given by its transpose and `R` by its transpose.
    fn inner_with_covariance(&self, left_t: &Matrix, right_t: &Matrix) -> f64 {
        self.deviations.iter().map(|d| d.share * product_inner(left_t, right_t, &d.b_t, &d.a_t)).sum()
    }

    /// `‖C‖² = sum over i, j of p_i p_j <D_i E_i, D_j E_j>`.
    fn covariance_norm_squared(&self) -> f64 {
        let mut sum = 0.0;
        for (index, first) in self.deviations.iter().enumerate() {
            sum += first.share * first.share * product_inner(&first.b_t, &first.a_t, &first.b_t, &first.a_t);
            for second in &self.deviations[index + 1..] {
                let inner = product_inner(&first.b_t, &first.a_t, &second.b_t, &second.a_t);
                sum += 2.0 * first.share * second.share * inner;
            }
        }
        sum
    }
}

/// `Āᵀ` (`d_in x r`) and `B̄ᵀ` (`r x d_out`), not rounded to f32.
pub(crate) fn means(contributions: &[Contribution<'_>]) -> Result<(Matrix, Matrix), AggregationError> {
    Ok((mean_t(contributions, Side::A)?, mean_t(contributions, Side::B)?))
}

/// The transposed mean of one factor, not rounded to f32.
pub(crate) fn mean_t(contributions: &[Contribution<'_>], side: Side) -> Result<Matrix, AggregationError> {
    let sources: Vec<_> = contributions.iter().map(|one| (one.share, one.side(side))).collect();
    let rows = sources.first().and_then(|(_, source)| source.shape().first().copied()).unwrap_or(1).max(1);
    let mean = weighted_mean_f64(&sources)?;
    Ok(Matrix::from_vec(mean.len() / rows, rows, mean))
}

/// `<X Y, U V> = <Xᵀ U, Y Vᵀ>` from `Xᵀ`, `Yᵀ`, `Uᵀ`, `Vᵀ`.
fn product_inner(x_t: &Matrix, y_t: &Matrix, u_t: &Matrix, v_t: &Matrix) -> f64 {
    low_rank::inner(&(x_t * u_t.transpose()), &y_t.tr_mul(v_t))
}

fn stack_rows(upper: &Matrix, lower: &Matrix) -> Matrix {
    stack_columns(&upper.transpose(), &lower.transpose()).transpose()
}

fn stack_columns(left: &Matrix, right: &Matrix) -> Matrix {
    let columns = left.column_iter().chain(right.column_iter()).collect::<Vec<_>>();
    Matrix::from_columns(&columns)
}
