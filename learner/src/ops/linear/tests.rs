use burn::tensor::{DType, Device, Tensor};

use super::super::testing::{assert_close, bits, constant, leaf, on_threads, values, weighted_sum};
use super::*;

/// Sums of up to 400 products of numbers in [-1, 1]: each of the two roundings a step is below 2⁻²⁴ of a partial sum,
/// which stays below 64 here (ten standard deviations).
const TOLERANCE: f32 = 400.0 * 64.0 / 16_777_216.0;

#[test]
fn linear_and_its_gradient_agree_with_the_composite_form() {
    for (tokens, d_in, d_out) in [(1, 1, 1), (5, 3, 7), (64, 48, 96), (70, 100, 49), (131, 400, 97)] {
        for biased in [false, true] {
            let (x, reference) = (leaf([tokens, d_in], 1), leaf([tokens, d_in], 1));
            let weight = constant([d_out, d_in], 2);
            let bias = biased.then(|| constant([d_out], 3));
            let y = linear(x.clone(), weight.clone(), bias.clone());
            let expected = composite(reference.clone(), weight, bias);
            assert_close(y.clone(), expected.clone(), TOLERANCE);
            let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
            assert_close(x.grad(&grads).unwrap(), reference.grad(&expected).unwrap(), TOLERANCE);
        }
    }
}

#[test]
fn linear_gives_a_frozen_weight_no_gradient() {
    let (x, weight) = (leaf([3, 4], 1), leaf([5, 4], 2));
    let grads = weighted_sum(linear(x.clone(), weight.clone(), None)).backward();
    assert!(x.grad(&grads).is_some());
    assert!(weight.grad(&grads).is_none());
}

#[test]
fn linear_of_a_constant_is_not_tracked() {
    let y = linear(constant([3, 4], 1), constant([5, 4], 2), None);
    assert!(!y.is_require_grad());
}

#[test]
fn linear_gives_a_row_the_same_bits_on_any_number_of_threads_and_beside_any_other_rows() {
    let weight = constant([200, 390], 2);
    let x = constant([150, 390], 1);
    let whole = bits(on_threads(1, || linear(x.clone(), weight.clone(), None)));
    assert_eq!(whole, bits(on_threads(2, || linear(x.clone(), weight.clone(), None))));
    let part = bits(linear(x.slice([37..120, 0..390]), weight, None));
    assert_eq!(whole[37 * 200..120 * 200], part);
}

#[test]
fn linear_reads_views_that_are_not_dense() {
    let (x, weight) = (constant([6, 9], 1), constant([6, 11], 2));
    let (x, weight) = (x.transpose().slice([2..7, 0..6]), weight.transpose());
    assert_close(linear(x.clone(), weight.clone(), None), composite(x, weight, None), TOLERANCE);
}

#[test]
fn linear_without_inputs_is_its_bias_whatever_its_memory_held_before() {
    // Large enough for memory that an earlier result has filled.
    let shape = [300, 100];
    drop(linear(linear(constant(shape, 1), constant([100, 100], 2), None), constant([100, 100], 3), None));
    for (bias, expected) in [(None, 0.0_f32), (Some(Tensor::ones([100], &Device::flex().autodiff())), 1.0)] {
        let (x, weight) = (constant([300, 0], 1), constant([100, 0], 2));
        assert!(values(linear(x, weight, bias)).iter().all(|value| value.to_bits() == expected.to_bits()));
    }
}

#[test]
fn weights_of_16_bits_give_what_their_values_give_in_32() {
    // Whole numbers below 2^8: bfloat16 holds them, their products and the sums of these.
    let whole = |shape: [usize; 2], seed| (constant(shape, seed) * 3.0).round();
    let (x, weight) = (whole([6, 5], 1), whole([4, 5], 2));
    for dtype in [DType::BF16, DType::F16] {
        let run = |weight: Tensor<2>| {
            let x = x.clone().require_grad();
            let y = linear(x.clone(), weight, None);
            let gradients = y.clone().sum().backward();
            (bits(y), bits(x.grad(&gradients).unwrap()))
        };
        assert_eq!(run(weight.clone().cast(dtype)), run(weight.clone()), "{dtype:?}");
    }
}

#[test]
fn products_with_bfloat16_round_their_inputs_and_those_with_float16_do_not() {
    let x = Tensor::<2>::from_data([[1.0 + 1.0 / 512.0]], &Device::flex());
    let one = |dtype| Tensor::<2>::ones([1, 1], &Device::flex()).cast(dtype);
    assert_eq!(values(linear(x.clone(), one(DType::BF16), None)), [1.0]);
    assert_eq!(values(linear(x.clone(), one(DType::F16), None)), values(x));
}
