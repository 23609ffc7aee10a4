use super::super::testing::{assert_close, bits, constant, leaf, on_threads, weighted_sum};
use super::*;

/// Two chained products of at most 200 terms of size 1 with a few roundings each.
const TOLERANCE: f32 = 1e-4;

fn check(heads: usize, head_width: usize, lengths: &[usize]) {
    let shape = [lengths.iter().sum(), heads * head_width];
    let inputs = [leaf(shape, 1), leaf(shape, 2), leaf(shape, 3)];
    let references = [leaf(shape, 1), leaf(shape, 2), leaf(shape, 3)];
    let [q, k, v] = inputs.clone();
    let y = attention(q * 3.0, k, v, heads, lengths);
    let [q, k, v] = references.clone();
    let expected = composite(q * 3.0, k, v, heads, lengths);
    assert_close(y.clone(), expected.clone(), TOLERANCE);
    let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
    for (input, reference) in inputs.iter().zip(&references) {
        assert_close(input.grad(&grads).unwrap(), reference.grad(&expected).unwrap(), TOLERANCE);
    }
}

#[test]
fn attention_and_its_gradients_agree_with_the_composite_form() {
    check(1, 1, &[1]);
    check(2, 5, &[3, 1, 17]);
    check(3, 16, &[16, 48, 5]);
    check(12, 32, &[64, 25]);
    check(2, 64, &[197]);
}

#[test]
fn attention_skips_sequences_without_tokens() {
    check(2, 4, &[0, 3, 0, 2, 0]);
}

#[test]
fn attention_keeps_sequences_apart() {
    let [q, k, v] = [1, 2, 3].map(|seed| constant([30, 8], seed));
    let whole = bits(attention(q.clone(), k.clone(), v.clone(), 2, &[11, 19]));
    let [q, k, v] = [q, k, v].map(|x| x.slice([11..30, 0..8]));
    assert_eq!(whole[11 * 8..], bits(attention(q, k, v, 2, &[19])));
}

#[test]
fn attention_gives_gradients_only_to_tracked_inputs() {
    for tracked in 0..3 {
        let inputs =
            [0, 1, 2].map(|input| if input == tracked { leaf([7, 8], input) } else { constant([7, 8], input) });
        let references = inputs.clone().map(Tensor::detach);
        let references = [0, 1, 2].map(|input| {
            let reference = references[input].clone();
            if input == tracked as usize { reference.require_grad() } else { reference }
        });
        let [q, k, v] = inputs.clone();
        let grads = weighted_sum(attention(q, k, v, 2, &[3, 4])).backward();
        let [q, k, v] = references.clone();
        let expected = weighted_sum(composite(q, k, v, 2, &[3, 4])).backward();
        for (input, reference) in inputs.iter().zip(&references) {
            match (input.grad(&grads), reference.grad(&expected)) {
                (Some(actual), Some(expected)) => assert_close(actual, expected, TOLERANCE),
                (None, None) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn attention_survives_scores_beyond_the_range_of_the_exponential() {
    let [q, k, v] = [1, 2, 3].map(|seed| constant([20, 16], seed));
    let y = attention(q.clone() * 500.0, k.clone(), v.clone(), 2, &[20]);
    assert_close(y, composite(q * 500.0, k, v, 2, &[20]), 1e-2);
}

#[test]
fn attention_is_the_same_bit_for_bit_on_one_and_two_threads() {
    let run = || {
        let inputs = [leaf([60, 48], 1), leaf([60, 48], 2), leaf([60, 48], 3)];
        let [q, k, v] = inputs.clone();
        let y = attention(q, k, v, 4, &[20, 7, 33]);
        let grads = weighted_sum(y.clone()).backward();
        (bits(y), inputs.map(|input| bits(input.grad(&grads).unwrap())))
    };
    assert_eq!(on_threads(1, run), on_threads(2, run));
}
