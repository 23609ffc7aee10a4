//! A frozen linear layer with magnitude and direction trained apart (DoRA, arXiv 2402.09353).

use burn::tensor::{DType, Int, Tensor, TensorData};

use super::{FrozenWeight, Lora, linear, linear_lora};

/// `m / ‖V‖ ∘ (V x) + bias` with `V = W + scale · B_g A_g` and `‖V‖` the lengths of its rows (equation 5).
///
/// `magnitude` is `[G, d_out, 1]`; the rest is as in [`linear_lora`]. The lengths are constants in the backward pass
/// (section 4.3). Under dropout the frozen part is scaled on what the branch sees, as in PEFT:
/// `W x + bias + (m / ‖V‖ - 1) ∘ W x' + m / ‖V‖ ∘ scale · B A x'`.
///
/// # Panics
///
/// As [`linear_lora`].
#[must_use]
pub fn linear_dora(
    x: Tensor<2>,
    weight: impl Into<FrozenWeight>,
    bias: Option<Tensor<1>>,
    mut lora: Lora,
    magnitude: Tensor<3>,
) -> Tensor<2> {
    let weight = weight.into();
    let factors = magnitude / lengths(weight.tensor(), &lora);
    let factors = for_rows(factors, &lora.rows);
    match lora.mask.take() {
        None => {
            let y = linear_lora(x, weight, None, lora) * factors;
            bias.iter().fold(y, |y, bias| y + bias.clone().unsqueeze())
        }
        Some(mask) => {
            let seen = x.clone() * mask;
            let unseen = linear(x - seen.clone(), weight.clone(), bias);
            unseen + linear_lora(seen, weight, None, lora) * factors
        }
    }
}

/// Lengths of the rows of `W + scale · B_g A_g`, `[G, d_out, 1]`, without the sum of the two being formed:
/// `‖w + s·Aᵀb‖² = ‖w‖² + 2·s·b·(A w) + s²·b·(A Aᵀ) b` for a row `w` of `W` and `b` of `B`.
fn lengths(weight: &Tensor<2>, lora: &Lora) -> Tensor<3> {
    let (a, b, scale) = (lora.a.clone().detach(), lora.b.clone().detach(), lora.scale);
    let weight = weight.clone().cast(DType::F32);
    let [groups, rank, d_in] = a.dims();
    let [d_out, _] = weight.dims();
    let frozen = (weight.clone() * weight.clone()).sum_dim(1);
    // One group after another: products of the same shapes give a client the same bits whoever trains beside it.
    let of_group = |group| {
        let a = a.clone().narrow(0, group, 1).reshape([rank, d_in]);
        let b = b.clone().narrow(0, group, 1).reshape([d_out, rank]);
        let projected = weight.clone().matmul(a.clone().transpose());
        let mixed = (b.clone() * projected).sum_dim(1).mul_scalar(2.0 * scale);
        let gram = a.clone().matmul(a.transpose());
        let trained = (b.clone().matmul(gram) * b).sum_dim(1).mul_scalar(scale * scale);
        // Rounding can take a row of nearly no length below zero.
        (mixed + trained + frozen.clone()).clamp_min(f32::MIN_POSITIVE).sqrt().unsqueeze::<3>()
    };
    Tensor::cat((0..groups).map(of_group).collect(), 0)
}

/// Each row's group's vector, `[T, d_out]` from `[G, d_out, 1]`.
///
/// One group is treated as several are, so that the sums of its gradient have the same order.
fn for_rows(vectors: Tensor<3>, rows: &[usize]) -> Tensor<2> {
    let [groups, d_out, _] = vectors.dims();
    let vectors = vectors.reshape([groups, d_out]);
    let owners: Vec<i32> = (0..).zip(rows).flat_map(|(group, &count)| std::iter::repeat_n(group, count)).collect();
    let count = owners.len();
    let owners = Tensor::<1, Int>::from_data(TensorData::new(owners, [count]), &vectors.device().inner());
    vectors.select(0, owners)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, constant, leaf, weighted_sum};
    use super::*;

    /// Sums of at most 14 products of numbers below one, four of them one behind the other.
    const TOLERANCE: f32 = 64.0 * f32::EPSILON;

    fn lora(a: &Tensor<3>, b: &Tensor<3>, rows: &[usize], mask: Option<Tensor<2>>) -> Lora {
        Lora { a: a.clone(), b: b.clone(), scale: 1.5, rows: rows.to_vec(), mask }
    }

    /// The definition: the whole matrix, and lengths that get no gradient.
    fn whole(x: Tensor<2>, w: Tensor<2>, bias: Tensor<1>, a: Tensor<2>, b: Tensor<2>, m: Tensor<2>) -> Tensor<2> {
        let v = w + b.matmul(a).mul_scalar(1.5);
        let lengths = (v.clone() * v.clone()).sum_dim(1).sqrt().detach();
        x.matmul((v * m / lengths).transpose()) + bias.unsqueeze()
    }

    #[test]
    fn every_group_has_the_values_and_gradients_of_the_definition_on_its_own_rows() {
        let (w, bias) = (constant([5, 7], 1), constant([1, 5], 2).reshape([5]));
        let rows = [4, 3];
        let (x, a, b, m) = (leaf([7, 7], 3), leaf([2, 2, 7], 4), leaf([2, 5, 2], 5), leaf([2, 5, 1], 6));
        let y = linear_dora(x.clone(), w.clone(), Some(bias.clone()), lora(&a, &b, &rows, None), m.clone());
        let grads = weighted_sum(y.clone()).backward();
        let weights = constant([7, 5], 99);
        for (group, range) in [(0, 0..4), (1, 4..7)] {
            let own = |t: &Tensor<3>| {
                let [_, rows, columns] = t.dims();
                t.clone().inner().narrow(0, group, 1).reshape([rows, columns]).autodiff().require_grad()
            };
            let part = x.clone().inner().slice([range.clone(), 0..7]).autodiff().require_grad();
            let (own_a, own_b, own_m) = (own(&a), own(&b), own(&m));
            let expected = whole(part.clone(), w.clone(), bias.clone(), own_a.clone(), own_b.clone(), own_m.clone());
            assert_close(y.clone().inner().slice([range.clone(), 0..5]), expected.clone().inner(), TOLERANCE);
            let wanted = (expected * weights.clone().slice([range.clone(), 0..5])).sum().backward();
            assert_close(x.grad(&grads).unwrap().slice([range, 0..7]), part.grad(&wanted).unwrap(), TOLERANCE);
            for (found, own) in [(&a, own_a), (&b, own_b), (&m, own_m)] {
                let [rows, columns] = own.dims();
                let found = found.grad(&grads).unwrap().narrow(0, group, 1).reshape([rows, columns]);
                assert_close(found, own.grad(&wanted).unwrap(), TOLERANCE);
            }
        }
    }

    #[test]
    fn a_mask_of_ones_changes_nothing_and_a_magnitude_that_is_the_length_gives_plain_lora() {
        let (w, bias) = (constant([5, 7], 1), constant([1, 5], 2).reshape([5]));
        let (x, a, b) = (constant([4, 7], 3), constant([2, 7], 4).unsqueeze(), constant([5, 2], 5).unsqueeze());
        let plain = lora(&a, &b, &[4], None);
        let m = lengths(&w, &plain);
        let expected = linear_lora(x.clone(), w.clone(), Some(bias.clone()), plain.clone());
        let y = linear_dora(x.clone(), w.clone(), Some(bias.clone()), plain, m.clone());
        assert_close(y, expected.clone(), TOLERANCE);
        let ones = x.ones_like();
        assert_close(linear_dora(x, w, Some(bias), lora(&a, &b, &[4], Some(ones)), m), expected, TOLERANCE);
    }
}
