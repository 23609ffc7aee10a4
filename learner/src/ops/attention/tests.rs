use super::super::testing::{assert_close, bits, constant, leaf, on_threads, weighted_sum};
use super::*;

/// Two chained products of at most 200 terms of size 1 with a few roundings each.
const TOLERANCE: f32 = 1e-4;

/// The composite form of [`attention`].
fn reference(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: usize, lengths: &[usize]) -> Tensor<2> {
    let pattern = Pattern { heads, key_value_heads: heads, mask: Mask::Nothing };
    composite(q, k, v, pattern, &lengths.iter().map(|&length| Sequence::whole(length)).collect::<Vec<_>>())
}

fn check(heads: usize, head_width: usize, lengths: &[usize]) {
    check_pattern(Pattern { heads, key_value_heads: heads, mask: Mask::Nothing }, head_width, lengths);
}

fn check_pattern(pattern: Pattern, head_width: usize, lengths: &[usize]) {
    let rows = lengths.iter().sum();
    let shapes =
        [pattern.heads, pattern.key_value_heads, pattern.key_value_heads].map(|heads| [rows, heads * head_width]);
    let sequences: Vec<Sequence> = lengths.iter().map(|&length| Sequence::whole(length)).collect();
    let inputs = || [1, 2, 3].map(|seed| leaf(shapes[seed as usize - 1], seed));
    let (inputs, references) = (inputs(), inputs());
    let [q, k, v] = inputs.clone();
    let y = attend(q * 3.0, k, v, pattern, sequences.clone());
    let [q, k, v] = references.clone();
    let expected = composite(q * 3.0, k, v, pattern, &sequences);
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
    check(2, 8, &[6, 6, 6, 2, 6]);
}

#[test]
fn causal_attention_and_its_gradients_agree_with_the_composite_form_for_shared_keys_and_windows() {
    for window in [1, 3, 50, usize::MAX] {
        let mask = Mask::Later { window };
        for (heads, key_value_heads, head_width) in [(1, 1, 1), (4, 2, 6), (3, 1, 16), (2, 2, 33)] {
            check_pattern(Pattern { heads, key_value_heads, mask }, head_width, &[1, 17, 17, 0, 130]);
        }
    }
}

/// Queries of the last tokens of one sequence.
fn of_last(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: CausalHeads) -> Tensor<2> {
    let place = CachedKeys { queries: q.dims()[0], first: 0, keys: k.dims()[0] };
    causal_attention_of_cached(q, k, v, heads, &[place])
}

const CAUSAL: CausalHeads = CausalHeads { query: 4, key_value: 2, window: None };

/// Queries, keys and values of a number of tokens.
fn causal(tokens: usize) -> [Tensor<2>; 3] {
    [constant([tokens, 24], 1), constant([tokens, 12], 2), constant([tokens, 12], 3)]
}

#[test]
fn the_last_tokens_of_a_sequence_see_what_they_see_in_the_whole_of_it_to_the_bit() {
    for window in [None, Some(60)] {
        let heads = CausalHeads { window, ..CAUSAL };
        let [q, k, v] = causal(120);
        let whole = bits(causal_attention(q.clone(), k.clone(), v.clone(), heads, &[120]));
        for queries in [1, 2, 53] {
            let last = of_last(q.clone().narrow(0, 120 - queries, queries), k.clone(), v.clone(), heads);
            assert_eq!(bits(last), whole[(120 - queries) * 24..], "{window:?} {queries}");
        }
        let before = of_last(q.narrow(0, 0, 80), k.narrow(0, 0, 80), v.narrow(0, 0, 80), heads);
        assert_eq!(bits(before), whole[..80 * 24], "what comes later is not seen");
    }
}

#[test]
fn the_composite_form_knows_the_last_tokens_of_a_sequence_too() {
    let [q, k, v] = causal(70);
    let q = q.narrow(0, 50, 20);
    let sequence = Sequence { queries: 20, keys: 70, gap: 0 };
    let expected = composite(q.clone(), k.clone(), v.clone(), CAUSAL.into(), &[sequence]);
    assert_close(of_last(q, k, v, CAUSAL), expected, TOLERANCE);
}

#[test]
fn cached_sequences_compute_what_each_computes_alone_to_the_bit() {
    let [q, k, v] = causal(100);
    let places =
        [(1, 4, 20), (7, 24, 9), (3, 60, 31)].map(|(queries, first, keys)| CachedKeys { queries, first, keys });
    let q = q.narrow(0, 0, 11);
    let whole = bits(causal_attention_of_cached(q.clone(), k.clone(), v.clone(), CAUSAL, &places));
    let mut start = 0;
    for CachedKeys { queries, first, keys } in places {
        let [k, v] = [&k, &v].map(|x| x.clone().narrow(0, first, keys));
        let alone = bits(of_last(q.clone().narrow(0, start, queries), k, v, CAUSAL));
        assert_eq!(whole[start * 24..][..queries * 24], alone);
        start += queries;
    }
    let expected = composite(q.clone(), k.clone(), v.clone(), CAUSAL.into(), &Sequence::cached(&places, 100));
    assert_close(causal_attention_of_cached(q, k, v, CAUSAL, &places), expected, TOLERANCE);
}

#[test]
fn causal_attention_keeps_sequences_apart() {
    let [q, k, v] = causal(90);
    let whole = bits(causal_attention(q.clone(), k.clone(), v.clone(), CAUSAL, &[31, 59]));
    let [q, k, v] = [q, k, v].map(|x| x.narrow(0, 31, 59));
    assert_eq!(whole[31 * 24..], bits(causal_attention(q, k, v, CAUSAL, &[59])));
}

#[test]
fn causal_attention_is_the_same_bit_for_bit_on_one_and_two_threads() {
    let run = || {
        let inputs = [leaf([160, 24], 1), leaf([160, 12], 2), leaf([160, 12], 3)];
        let [q, k, v] = inputs.clone();
        let y = causal_attention(q, k, v, CAUSAL, &[20, 107, 33]);
        let grads = weighted_sum(y.clone()).backward();
        (bits(y), inputs.map(|input| bits(input.grad(&grads).unwrap())))
    };
    assert_eq!(on_threads(1, run), on_threads(2, run));
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
        let expected = weighted_sum(reference(q, k, v, 2, &[3, 4])).backward();
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
    assert_close(y, reference(q * 500.0, k, v, 2, &[20]), 1e-2);
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
