//! How far a new global product is from the mean of the clients' products, without forming either.
//!
//! With `D_k = B_k - B̄` and `E_k = A_k - Ā`, the mean product is `dW* = B̄Ā + C`, where `C = sum p_k D_k E_k` is the
//! covariance of the factors. So `B A - dW* = (B - B̄) A + B̄ (A - Ā) - C`: a sum of low-rank terms that are each as small as the
//! difference itself. Squared norms are inner products of `r x r` Grams, `<X Y, U V> = <Xᵀ U, Y Vᵀ>`, and subtracting
//! them costs digits only where terms truly cancel: the relative floor is about the square root of the f64 epsilon,
//! 1.5e-8, times the size of `C`, instead of times the size of `dW*`.

use std::ops::Add;

use fedlora_adapter::{AdapterSpec, LoraFactors, ModuleSpec, Side, TensorSource};

use crate::{
    AggregationError, Contribution,
    low_rank::{self, Matrix, Vectors, gram},
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
    let operations = |module: &ModuleSpec| {
        let columns = (clients * spec.rank_of(module)) as f64;
        columns * columns * (module.d_in + module.d_out) as f64
    };
    spec.modules.values().map(operations).sum::<f64>() <= MAX_OPERATIONS
}

/// The squares of one module's LoRA factors.
///
/// # Errors
/// A source that cannot be read.
pub(crate) fn measure(contributions: &[Contribution<'_>], result: &LoraFactors) -> Result<Squares, AggregationError> {
    let mut blocks = Blocks::new(contributions)?;
    let shift = blocks.push_shift(result)?;
    let grams = blocks.grams();
    let covariance = |sign: f64| covariance(contributions, sign);
    // With S_B = B - B̄ and S_A = A - Ā: (B - B̄) A + B̄ (A - Ā) = S_B Ā + S_B S_A + B̄ S_A.
    let moved = [(shift, MEAN), (shift, shift), (MEAN, shift)].map(|(b, a)| Term { factor: 1.0, b, a });
    let error: Vec<Term> = moved.into_iter().chain(covariance(-1.0)).collect();
    Ok(Squares { error: grams.norm_squared(&error), reference: grams.norm_squared(&mean_product(contributions)) })
}

/// `‖dW*‖²` of the mean of the clients' products.
///
/// # Errors
/// A source that cannot be read.
pub(crate) fn product_norm_squared(contributions: &[Contribution<'_>]) -> Result<f64, AggregationError> {
    Ok(Blocks::new(contributions)?.grams().norm_squared(&mean_product(contributions)))
}

/// Index of the means among the blocks; client `k`, counted from 1, has index `k`.
const MEAN: usize = 0;

/// `factor · X_b Y_a`, a product of two blocks.
#[derive(Debug, Clone, Copy)]
struct Term {
    factor: f64,
    b: usize,
    a: usize,
}

/// `sign · C`, a sum over the clients.
fn covariance(contributions: &[Contribution<'_>], sign: f64) -> impl Iterator<Item = Term> {
    (1..).zip(contributions).map(move |(client, one)| Term { factor: sign * one.share, b: client, a: client })
}

/// `dW* = B̄Ā + C`.
fn mean_product(contributions: &[Contribution<'_>]) -> Vec<Term> {
    std::iter::once(Term { factor: 1.0, b: MEAN, a: MEAN }).chain(covariance(contributions, 1.0)).collect()
}

/// Means of the factors, the clients' deviations from them, and perhaps a result's.
struct Blocks {
    rank: usize,
    /// `d_in x r` each.
    a_t: Vec<Matrix>,
    /// `r x d_out` each.
    b_t: Vec<Matrix>,
}

impl Blocks {
    fn new(contributions: &[Contribution<'_>]) -> Result<Self, AggregationError> {
        let (mean_a_t, mean_b_t) = means(contributions)?;
        let mut blocks = Self { rank: mean_b_t.nrows(), a_t: vec![mean_a_t], b_t: vec![mean_b_t] };
        for contribution in contributions {
            blocks.push(&contribution.a, &contribution.b)?;
        }
        Ok(blocks)
    }

    /// Adds a result's deviation and returns its index.
    fn push_shift(&mut self, result: &LoraFactors) -> Result<usize, AggregationError> {
        let [a, b] = [&result.a, &result.b].map(|tensor| TensorSource::Memory(tensor.as_ref()));
        self.push(&a, &b)?;
        Ok(self.a_t.len() - 1)
    }

    fn push(&mut self, a: &TensorSource<'_>, b: &TensorSource<'_>) -> Result<(), AggregationError> {
        let a_t = low_rank::transposed(a)? - &self.a_t[MEAN];
        let b_t = low_rank::transposed(b)? - &self.b_t[MEAN];
        self.a_t.push(a_t);
        self.b_t.push(b_t);
        Ok(())
    }

    fn grams(&self) -> Grams {
        let (a, b) = (gram(&self.a_t, Vectors::Columns), gram(&self.b_t, Vectors::Rows));
        Grams { rank: self.rank, a, b }
    }
}

/// `Yᵢ Yⱼᵀ` and `Xᵢᵀ Xⱼ` of all blocks, from which every inner product of their products follows.
struct Grams {
    rank: usize,
    a: Matrix,
    b: Matrix,
}

impl Grams {
    /// The squared Frobenius norm of a sum of products.
    fn norm_squared(&self, terms: &[Term]) -> f64 {
        let mut sum = 0.0;
        for (index, first) in terms.iter().enumerate() {
            sum += first.factor * first.factor * self.inner(*first, *first);
            for second in &terms[index + 1..] {
                sum += 2.0 * first.factor * second.factor * self.inner(*first, *second);
            }
        }
        // Rounding can leave a little less than nothing.
        sum.max(0.0)
    }

    /// `<X Y, U V> = <Xᵀ U, Y Vᵀ>`.
    fn inner(&self, first: Term, second: Term) -> f64 {
        let size = (self.rank, self.rank);
        let b = self.b.view((first.b * self.rank, second.b * self.rank), size);
        b.dot(&self.a.view((first.a * self.rank, second.a * self.rank), size))
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
