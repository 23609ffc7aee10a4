//! A small trained linear layer with weights of its own for each group of rows: classification heads.

use burn::tensor::Tensor;

/// `x Wᵀ + b` with `weight` `[G, d_out, d_in]` and `bias` `[G, d_out, 1]`, if there is one: group `g` owns the next `rows[g]` rows of `x`.
///
/// A head is a thousandth of an encoder's work, so plain tensor operations serve on every device.
///
/// # Panics
///
/// If the row counts do not sum to the rows of `x`, or their number is not `G`.
#[must_use]
pub fn grouped_linear(x: Tensor<2>, weight: Tensor<3>, bias: Option<Tensor<3>>, rows: &[usize]) -> Tensor<2> {
    let [groups, d_out, d_in] = weight.dims();
    assert_eq!(rows.iter().sum::<usize>(), x.dims()[0], "row counts must sum to the number of rows");
    assert_eq!(rows.len(), groups, "every group of weights needs a row count");
    let mut start = 0;
    let mut outputs = Vec::with_capacity(groups);
    for (group, &count) in rows.iter().enumerate().filter(|(_, count)| **count > 0) {
        let own = x.clone().slice([start..start + count, 0..d_in]);
        let weight = weight.clone().narrow(0, group, 1).reshape([d_out, d_in]);
        let y = own.matmul(weight.transpose());
        outputs.push(match &bias {
            Some(bias) => y + bias.clone().narrow(0, group, 1).reshape([1, d_out]),
            None => y,
        });
        start += count;
    }
    Tensor::cat(outputs, 0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, constant, leaf, weighted_sum};
    use super::*;

    #[test]
    fn every_group_is_the_plain_layer_on_its_own_rows() {
        let (x, weight, bias) = (leaf([7, 5], 1), leaf([3, 2, 5], 2), leaf([3, 2, 1], 3));
        let y = grouped_linear(x.clone(), weight.clone(), Some(bias.clone()), &[4, 0, 3]);
        let grads = weighted_sum(y.clone()).backward();
        let weights = constant([7, 2], 99);
        // Sums of at most five products of numbers below one.
        let tolerance = 10.0 * f32::EPSILON;
        for (group, rows) in [(0, 0..4), (2, 4..7)] {
            let own = x.clone().inner().slice([rows.clone(), 0..5]);
            let plain = |x: &Tensor<3>, shape: [usize; 2]| x.clone().inner().narrow(0, group, 1).reshape(shape);
            let expected = own.clone().matmul(plain(&weight, [2, 5]).transpose()) + plain(&bias, [1, 2]);
            assert_close(y.clone().inner().slice([rows.clone(), 0..2]), expected, tolerance);
            let slopes = weights.clone().inner().slice([rows, 0..2]);
            let found = weight.grad(&grads).unwrap().narrow(0, group, 1).reshape([2, 5]);
            assert_close(found, slopes.transpose().matmul(own), tolerance);
        }
    }
}
