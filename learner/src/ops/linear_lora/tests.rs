use super::super::testing::{assert_close, bits, constant, leaf, on_threads, values, weighted_sum};
use super::*;

/// Sums of up to 400 products as in the plain linear layer, then one over the rank with factors of size 1.
const TOLERANCE: f32 = 4e-3;

const D_IN: usize = 100;
const D_OUT: usize = 53;

#[derive(Clone)]
struct Case {
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    lora: Lora,
}

fn case(rows: &[usize], rank: usize, masked: bool, biased: bool) -> Case {
    let tokens = rows.iter().sum();
    Case {
        x: leaf([tokens, D_IN], 1),
        weight: constant([D_OUT, D_IN], 2),
        bias: biased.then(|| constant([D_OUT], 3)),
        lora: Lora {
            a: leaf([rows.len(), rank, D_IN], 4),
            b: leaf([rows.len(), D_OUT, rank], 5),
            scale: 0.5,
            rows: rows.to_vec(),
            mask: masked.then(|| (constant([tokens, D_IN], 6).greater_elem(-0.8).float()) / 0.9),
        },
    }
}

type Form = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>, Lora) -> Tensor<2>;

/// The output and the gradients of `x`, `a` and `b`.
fn run(form: Form, case: &Case) -> (Tensor<2>, Option<Tensor<2>>, Option<Tensor<3>>, Option<Tensor<3>>) {
    let Case { x, weight, bias, lora } = case.clone();
    let y = form(x, weight, bias, lora);
    let grads = weighted_sum(y.clone()).backward();
    (y, case.x.grad(&grads), case.lora.a.grad(&grads), case.lora.b.grad(&grads))
}

fn check(case: &Case, reference: &Case) {
    let (actual, expected) = (run(linear_lora, case), run(composite, reference));
    assert_close(actual.0, expected.0, TOLERANCE);
    assert_eq!(actual.1.is_some(), expected.1.is_some());
    if let (Some(actual), Some(expected)) = (actual.1, expected.1) {
        assert_close(actual, expected, TOLERANCE);
    }
    for (actual, expected) in [(actual.2, expected.2), (actual.3, expected.3)] {
        assert_eq!(actual.is_some(), expected.is_some());
        if let (Some(actual), Some(expected)) = (actual, expected) {
            assert_close(actual, expected, TOLERANCE);
        }
    }
}

#[test]
fn linear_lora_and_its_gradients_agree_with_the_composite_form() {
    for (rows, rank) in [(vec![1], 1), (vec![70, 5], 8), (vec![20, 130, 33], 4), (vec![300], 16)] {
        for (masked, biased) in [(false, false), (false, true), (true, false), (true, true)] {
            check(&case(&rows, rank, masked, biased), &case(&rows, rank, masked, biased));
        }
    }
}

#[test]
fn linear_lora_gives_a_group_without_rows_zero_gradients() {
    let case = case(&[4, 0, 3], 2, false, true);
    let (_, _, a, b) = run(linear_lora, &case);
    let (a, b) = (values(a.unwrap()), values(b.unwrap()));
    assert!(a[2 * D_IN..4 * D_IN].iter().all(|value| *value == 0.0));
    assert!(b[D_OUT * 2..D_OUT * 4].iter().all(|value| *value == 0.0));
    assert!(a[..2 * D_IN].iter().any(|value| *value != 0.0));
}

#[test]
fn linear_lora_computes_only_the_gradients_that_are_wanted() {
    for wanted in 0..8 {
        let frozen = |mut case: Case| {
            if wanted & 1 == 0 {
                case.x = case.x.detach();
            }
            if wanted & 2 == 0 {
                case.lora.a = case.lora.a.detach();
            }
            if wanted & 4 == 0 {
                case.lora.b = case.lora.b.detach();
            }
            case
        };
        if wanted == 0 {
            continue;
        }
        check(&frozen(case(&[30, 9], 4, true, true)), &frozen(case(&[30, 9], 4, true, true)));
    }
}

#[test]
fn linear_lora_of_groups_is_bit_for_bit_what_each_group_computes_alone() {
    let rows = [70, 1, 45];
    let together = case(&rows, 8, true, true);
    let (y, x, a, b) = run(linear_lora, &together);
    let (y, x, a, b) = (bits(y), bits(x.unwrap()), bits(a.unwrap()), bits(b.unwrap()));
    let mut first = 0;
    for (group, &count) in rows.iter().enumerate() {
        let part = |x: Tensor<2>| x.detach().slice([first..first + count, 0..D_IN]);
        let factor = |x: &Tensor<3>| x.clone().inner().narrow(0, group, 1).autodiff().require_grad();
        let lora = Lora {
            a: factor(&together.lora.a),
            b: factor(&together.lora.b),
            scale: 0.5,
            rows: vec![count],
            mask: together.lora.mask.clone().map(part),
        };
        let alone = Case { x: part(together.x.clone()).inner().autodiff().require_grad(), lora, ..together.clone() };
        let y_alone = linear_lora(alone.x.clone(), alone.weight, alone.bias, alone.lora.clone());
        let weights = constant([116, D_OUT], 99).slice([first..first + count, 0..D_OUT]);
        let grads = (y_alone.clone() * weights).sum().backward();
        assert_eq!(y[first * D_OUT..(first + count) * D_OUT], bits(y_alone));
        assert_eq!(x[first * D_IN..(first + count) * D_IN], bits(alone.x.grad(&grads).unwrap()));
        assert_eq!(a[group * 8 * D_IN..(group + 1) * 8 * D_IN], bits(alone.lora.a.grad(&grads).unwrap()));
        assert_eq!(b[group * 8 * D_OUT..(group + 1) * 8 * D_OUT], bits(alone.lora.b.grad(&grads).unwrap()));
        first += count;
    }
}

#[test]
fn linear_lora_is_the_same_bit_for_bit_on_one_and_two_threads() {
    let gradients = || {
        let (y, x, a, b) = run(linear_lora, &case(&[200, 77], 8, true, true));
        (bits(y), bits(x.unwrap()), bits(a.unwrap()), bits(b.unwrap()))
    };
    assert_eq!(on_threads(1, gradients), on_threads(2, gradients));
}
