//! Attention of one head inside one sequence.

use pulp::Arch;

use super::super::elementwise::{dot, exp, largest, sum};
use super::super::gemm::{Packed, ROW_BLOCK, Start, View, multiply_blocks};
use super::pattern::{Block, Mask, Sequence};

/// The queries, `[queries, d_head]`, and the keys and values, `[keys, d_head]`, of one head and sequence.
#[derive(Debug)]
pub(super) struct Head<'a> {
    q: View<'a>,
    k: View<'a>,
    v: View<'a>,
    scale: f32,
    mask: Mask,
    sequence: Sequence,
}

/// The gradients that somebody asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) q: bool,
    pub(super) k: bool,
    pub(super) v: bool,
}

/// The gradients with respect to keys and values, `[keys, d_head]`, empty where not wanted: sums over the query heads that
/// share them.
#[derive(Debug)]
pub(super) struct KeyGradient {
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
}

impl<'a> Head<'a> {
    pub(super) fn new(q: View<'a>, k: View<'a>, v: View<'a>, mask: Mask) -> Self {
        let scale = 1.0 / (q.columns() as f32).sqrt();
        let sequence = Sequence { queries: q.rows(), keys: k.rows(), gap: 0 };
        Self { q, k, v, scale, mask, sequence }
    }

    /// Zeros to which [`Head::backward`] adds.
    pub(super) fn key_gradient(&self, wanted: Wanted) -> KeyGradient {
        let zeros = |wanted: bool| vec![0.0; if wanted { self.k.rows() * self.k.columns() } else { 0 }];
        KeyGradient { k: zeros(wanted.k), v: zeros(wanted.v) }
    }

    /// The output `[queries, d_head]`; `logs` receives the logarithms of the softmax's denominators.
    pub(super) fn forward(&self, logs: &mut [f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.q.rows() * self.q.columns()];
        for block in self.blocks() {
            let mut weights = self.scores(&block);
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    let rows = weights.chunks_exact_mut(block.keys.len()).zip(&mut logs[block.queries.clone()]);
                    for (query, (row, log)) in block.queries.clone().zip(rows) {
                        *log = softmax(self.visible(row, query, &block), self.scale);
                    }
                },
            );
            product(
                block.weights(&weights),
                rows(self.v, &block.keys),
                Start::Zero,
                self.rows_of(&mut out, &block.queries),
            );
        }
        out
    }

    /// With weights `P = softmax(S)` and `g` the output's gradient: `dV = Pᵀ g`, `dP = g Vᵀ`,
    /// `dS = P ∘ (dP − rowsum(P ∘ dP))`, `dQ = dS K`, `dK = dSᵀ Q`. Returns `dQ`, or nothing if it is not wanted.
    pub(super) fn backward(&self, grad: View<'_>, logs: &[f32], wanted: Wanted, keys: &mut KeyGradient) -> Vec<f32> {
        let mut grad_q = vec![0.0; if wanted.q { self.q.rows() * self.q.columns() } else { 0 }];
        for block in self.blocks() {
            let (grad, v) = (rows(grad, &block.queries), rows(self.v, &block.keys));
            let mut weights = self.weights_again(&block, logs);
            if wanted.v {
                let out = self.rows_of(&mut keys.v, &block.keys);
                product(block.weights(&weights).transposed(), grad, Start::Output, out);
            }
            if !(wanted.q || wanted.k) {
                continue;
            }
            let mut slopes = vec![0.0; weights.len()];
            product(grad, v.transposed(), Start::Zero, &mut slopes);
            self.replace_by_slopes(&mut weights, &slopes, block.keys.len());
            let slopes = block.weights(&weights);
            if wanted.q {
                let out = self.rows_of(&mut grad_q, &block.queries);
                product(slopes, rows(self.k, &block.keys), Start::Zero, out);
            }
            if wanted.k {
                let out = self.rows_of(&mut keys.k, &block.keys);
                product(slopes.transposed(), rows(self.q, &block.queries), Start::Output, out);
            }
        }
        grad_q
    }

    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        self.mask.blocks(self.sequence, ROW_BLOCK)
    }

    /// `q kᵀ` of a block, not yet scaled.
    fn scores(&self, block: &Block) -> Vec<f32> {
        let mut scores = vec![0.0; block.queries.len() * block.keys.len()];
        product(rows(self.q, &block.queries), rows(self.k, &block.keys).transposed(), Start::Zero, &mut scores);
        scores
    }

    /// The weights of the forward pass from the logarithms that it left.
    fn weights_again(&self, block: &Block, logs: &[f32]) -> Vec<f32> {
        let mut weights = self.scores(block);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let rows = weights.chunks_exact_mut(block.keys.len()).zip(&logs[block.queries.clone()]);
                for (query, (row, log)) in block.queries.clone().zip(rows) {
                    for value in self.visible(row, query, block) {
                        *value = exp(*value * self.scale - log);
                    }
                }
            },
        );
        weights
    }

    /// `P` becomes the gradient of the unscaled scores.
    fn replace_by_slopes(&self, weights: &mut [f32], slopes: &[f32], keys: usize) {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, slopes) in weights.chunks_exact_mut(keys).zip(slopes.chunks_exact(keys)) {
                    let mean = dot(row, slopes);
                    for (value, slope) in row.iter_mut().zip(slopes) {
                        *value *= (slope - mean) * self.scale;
                    }
                }
            },
        );
    }

    /// The part of a row of scores that the query sees; the rest becomes zero.
    #[inline(always)]
    fn visible<'r>(&self, row: &'r mut [f32], query: usize, block: &Block) -> &'r mut [f32] {
        let seen = self.mask.visible(query, self.sequence);
        let (before, rest) = row.split_at_mut(seen.start - block.keys.start);
        let (seen, after) = rest.split_at_mut(seen.len());
        before.fill(0.0);
        after.fill(0.0);
        seen
    }

    /// Some rows of a dense matrix as wide as a head.
    fn rows_of<'m>(&self, matrix: &'m mut [f32], rows: &std::ops::Range<usize>) -> &'m mut [f32] {
        let width = self.q.columns();
        &mut matrix[rows.start * width..rows.end * width]
    }
}

impl Block {
    /// One number for each query and key, as a matrix.
    fn weights<'m>(&self, values: &'m [f32]) -> View<'m> {
        View::dense(values, self.queries.len(), self.keys.len())
    }
}

fn rows<'a>(matrix: View<'a>, rows: &std::ops::Range<usize>) -> View<'a> {
    matrix.row_range(rows.start, rows.len())
}

fn product(left: View<'_>, right: View<'_>, start: Start<'_>, out: &mut [f32]) {
    multiply_blocks(left, &Packed::new(right), start, out);
}

/// Replaces `row` by `softmax(scale · row)`; returns the logarithm of the denominator.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) -> f32 {
    let top = largest(row) * scale;
    for value in row.iter_mut() {
        *value = exp(*value * scale - top);
    }
    let total = sum(row);
    let inverse = 1.0 / total;
    for value in row.iter_mut() {
        *value *= inverse;
    }
    top + total.ln()
}
