//! Attention of one head inside one sequence.

use pulp::Arch;

use super::super::elementwise::{dot, exp, largest, sum};
use super::super::gemm::{Packed, Start, View, multiply_blocks};

/// The queries, keys and values of one head and sequence, `[length, d_head]` each.
#[derive(Debug)]
pub(super) struct Head<'a> {
    q: View<'a>,
    k: View<'a>,
    v: View<'a>,
    scale: f32,
}

/// The gradients that somebody asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) q: bool,
    pub(super) k: bool,
    pub(super) v: bool,
}

/// The gradients with respect to q, k and v, `[length, d_head]`, empty where not wanted.
pub(super) type Gradient = [Vec<f32>; 3];

impl<'a> Head<'a> {
    pub(super) fn new(q: View<'a>, k: View<'a>, v: View<'a>) -> Self {
        let scale = 1.0 / (q.columns() as f32).sqrt();
        Self { q, k, v, scale }
    }

    /// The output `[length, d_head]`; `logs` receives the logarithms of the softmax's denominators.
    pub(super) fn forward(&self, logs: &mut [f32]) -> Vec<f32> {
        let length = self.q.rows();
        let mut weights = product(self.q, self.k.transposed());
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, log) in weights.chunks_exact_mut(length).zip(logs) {
                    *log = softmax(row, self.scale);
                }
            },
        );
        product(View::dense(&weights, length, length), self.v)
    }

    /// With weights `P = softmax(S)` and `g` the output's gradient: `dV = Pᵀ g`, `dP = g Vᵀ`,
    /// `dS = P ∘ (dP − rowsum(P ∘ dP))`, `dQ = dS K`, `dK = dSᵀ Q`.
    pub(super) fn backward(&self, grad: View<'_>, logs: &[f32], wanted: Wanted) -> Gradient {
        let length = self.q.rows();
        let mut weights = product(self.q, self.k.transposed());
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, log) in weights.chunks_exact_mut(length).zip(logs) {
                    for value in row {
                        *value = exp(*value * self.scale - log);
                    }
                }
            },
        );
        let mut gradient = Gradient::default();
        if wanted.v {
            gradient[2] = product(View::dense(&weights, length, length).transposed(), grad);
        }
        if !(wanted.q || wanted.k) {
            return gradient;
        }
        let slopes = product(grad, self.v.transposed());
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, slopes) in weights.chunks_exact_mut(length).zip(slopes.chunks_exact(length)) {
                    let mean = dot(row, slopes);
                    for (value, slope) in row.iter_mut().zip(slopes) {
                        *value *= (slope - mean) * self.scale;
                    }
                }
            },
        );
        let slopes = View::dense(&weights, length, length);
        if wanted.q {
            gradient[0] = product(slopes, self.k);
        }
        if wanted.k {
            gradient[1] = product(slopes.transposed(), self.q);
        }
        gradient
    }
}

fn product(left: View<'_>, right: View<'_>) -> Vec<f32> {
    let mut out = vec![0.0; left.rows() * right.columns()];
    multiply_blocks(left, &Packed::new(right), Start::Zero, &mut out);
    out
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
