use super::super::testing::{assert_close, bits, constant, leaf, on_threads, weighted_sum};
use super::*;

/// A few dozen roundings of numbers below 8 on the way, and one division by a standard deviation of about a half.
const TOLERANCE: f32 = 64.0 * 8.0 * f32::EPSILON;

const SHAPES: [[usize; 2]; 4] = [[1, 2], [3, 7], [33, 48], [70, 384]];

#[test]
fn layer_norm_and_its_gradient_agree_with_the_composite_form() {
    for [tokens, width] in SHAPES {
        let (x, reference) = (leaf([tokens, width], 1), leaf([tokens, width], 1));
        let (gamma, beta) = (constant([width], 2), constant([width], 3));
        let y = layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-5);
        let expected = composite(reference.clone(), gamma, beta, 1e-5);
        assert_close(y.clone(), expected.clone(), TOLERANCE);
        let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
        // With two elements a row can have a deviation of 0.05, which multiplies all errors.
        assert_close(x.grad(&grads).unwrap(), reference.grad(&expected).unwrap(), 32.0 * TOLERANCE);
    }
}

#[test]
fn add_layer_norm_sends_the_gradient_to_both_summands() {
    for [tokens, width] in SHAPES {
        let shape = [tokens, width];
        let (x, residual) = (leaf(shape, 1), leaf(shape, 4));
        let (x_reference, residual_reference) = (leaf(shape, 1), leaf(shape, 4));
        let (gamma, beta) = (constant([width], 2), constant([width], 3));
        let y = add_layer_norm(x.clone(), residual.clone(), gamma.clone(), beta.clone(), 1e-12);
        let expected = composite(x_reference.clone() + residual_reference.clone(), gamma, beta, 1e-12);
        assert_close(y.clone(), expected.clone(), TOLERANCE);
        let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
        let expected = [x_reference.grad(&expected), residual_reference.grad(&expected)];
        for (actual, expected) in [x.grad(&grads), residual.grad(&grads)].into_iter().zip(expected) {
            assert_close(actual.unwrap(), expected.unwrap(), 32.0 * TOLERANCE);
        }
    }
}

#[test]
fn layer_norm_leaves_an_input_that_others_hold_unchanged() {
    let (x, residual) = (leaf([4, 6], 1), leaf([4, 6], 2));
    let before = bits(x.clone());
    let y = add_layer_norm(x.clone(), residual, constant([6], 3), constant([6], 4), 1e-5);
    let _ = weighted_sum(y + x.clone()).backward();
    assert_eq!(before, bits(x));
}

#[test]
fn layer_norm_is_the_same_bit_for_bit_on_one_and_two_threads() {
    let run = || {
        let x = leaf([100, 130], 1);
        let y = layer_norm(x.clone(), constant([130], 2), constant([130], 3), 1e-5);
        let grads = weighted_sum(y.clone()).backward();
        (bits(y), bits(x.grad(&grads).unwrap()))
    };
    assert_eq!(on_threads(1, run), on_threads(2, run));
}
