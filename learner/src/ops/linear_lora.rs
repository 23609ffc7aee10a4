//! A frozen linear layer with a trained low-rank branch.

use burn::tensor::Tensor;

use super::linear;

/// The low-rank branch of one layer, for one or several groups of rows (Hu et al. 2021, section 4.1).
#[derive(Debug, Clone)]
pub struct Lora {
    /// Down projections, `[G, r, d_in]`.
    pub a: Tensor<3>,
    /// Up projections, `[G, d_out, r]`.
    pub b: Tensor<3>,
    /// Factor of the branch, `alpha / r` for plain `LoRA`.
    pub scale: f32,
    /// `G` row counts that sum to `T`: group `g` owns the next `rows[g]` rows.
    pub rows: Vec<usize>,
    /// Dropout mask of the branch's input `[T, d_in]`, already multiplied by `1 / (1 - p)`.
    pub mask: Option<Tensor<2>>,
}

/// `x Wᵀ + bias + scale · ((x ∘ mask) A_gᵀ) B_gᵀ`, with gradients for `x`, `a` and `b` only.
#[must_use]
pub fn linear_lora(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, lora: Lora) -> Tensor<2> {
    composite(x, weight, bias, lora)
}

/// The same function in plain tensor operations.
pub(super) fn composite(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, lora: Lora) -> Tensor<2> {
    let base = linear::composite(x.clone(), weight, bias);
    let input = match lora.mask {
        Some(mask) => x * mask,
        None => x,
    };
    let [_, rank, d_in] = lora.a.dims();
    let d_out = lora.b.dims()[1];
    let mut start = 0;
    let mut branches = Vec::with_capacity(lora.rows.len());
    for (group, &rows) in lora.rows.iter().enumerate() {
        if rows == 0 {
            continue;
        }
        let a = lora.a.clone().slice([group..group + 1]).reshape([rank, d_in]);
        let b = lora.b.clone().slice([group..group + 1]).reshape([d_out, rank]);
        let owned = input.clone().slice([start..start + rows, 0..d_in]);
        start += rows;
        branches.push(owned.matmul(a.transpose()).matmul(b.transpose()));
    }
    base + Tensor::cat(branches, 0).mul_scalar(lora.scale)
}
