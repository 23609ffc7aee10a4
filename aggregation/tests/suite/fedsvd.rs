//! `FedSVD`: what re-factoring keeps, what form it gives, and what it is equal to.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, AdapterKind, AdapterUpdate, LoraFactors, RoundId, Seed, Side, Tensor};
use fedlora_aggregation::{AggregationError, Init, initial};
use proptest::prelude::*;

use crate::support::{
    Dense, F32, assert_canonical, assert_close, awkward, clients, dense, factors, mean_products, near, products,
    random, spec, step, step_of, strategy,
};

/// The clients as the server knows them: `A` is the server's.
fn as_sent(previous: &Adapter, clients: &[(f64, Adapter)]) -> Vec<(f64, Adapter)> {
    let directive = strategy("fedsvd", "").directive(RoundId(1));
    clients
        .iter()
        .map(|(weight, one)| (*weight, AdapterUpdate::select(one, directive).complete(previous).expect("one spec")))
        .collect()
}

proptest! {
    #[test]
    fn the_product_is_kept_and_the_factors_are_canonical(
        rank in 1_usize..6, extra in 0_usize..9, d_out in 1_usize..12, count in 1_u64..5, seed: u64,
    ) {
        let previous = random(&spec(AdapterKind::Lora, rank, &[(rank + extra, d_out)]), seed);
        let clients = clients(&previous, count, 0.5, seed);
        let result = step("fedsvd", "", &previous, &clients).adapter;
        // Entries of the product are sums of up to 5 terms, each factor rounded once.
        assert_close(&products(&result), &mean_products(&as_sent(&previous, &clients)), 40.0 * F32);
        assert_canonical(&result);
    }
}

#[test]
fn the_rows_of_a_stay_in_the_space_of_the_first_a() {
    let first = random(&awkward(AdapterKind::Lora), 21);
    let mut adapter = first.clone();
    for round in 0..20 {
        adapter = step("fedsvd", "", &adapter, &clients(&adapter, 3, 0.3, round)).adapter;
    }
    for (a, first) in factors(&adapter, Side::A).iter().zip(factors(&first, Side::A)) {
        let q = first.transpose().qr().q();
        let outside = a - a * &q * q.transpose();
        // Every round adds at most the rounding of `A`.
        assert!(outside.amax() < 20.0 * 3.0 * F32);
    }
}

#[test]
fn refactoring_twice_changes_nothing_more() {
    let previous = random(&awkward(AdapterKind::Lora), 22);
    let once = step("fedsvd", "", &previous, &[(1.0, near(&previous, 0.3, 1))]).adapter;
    let twice = step("fedsvd", "", &once, &[(1.0, once.clone())]).adapter;
    for side in [Side::A, Side::B] {
        // Vectors turn by the rounding divided by the relative gap of singular values, here above a tenth.
        assert_close(&factors(&twice, side), &factors(&once, side), 100.0 * F32);
    }
}

#[test]
fn a_zero_b_stays_zero_and_a_becomes_orthonormal() {
    let previous = random(&awkward(AdapterKind::Lora), 23);
    let (spec, mut modules, head) = previous.into_parts();
    for factors in modules.values_mut() {
        factors.b = Tensor::zeros(factors.b.shape());
    }
    let previous = Adapter::new(spec, modules, head).expect("shapes as before");
    let result = step("fedsvd", "", &previous, &[(1.0, previous.clone())]).adapter;
    assert!(factors(&result, Side::B).iter().all(|b| b.amax() == 0.0));
    assert_canonical(&result);
}

#[test]
fn deficient_ranks_of_either_factor_are_no_obstacle() {
    for broken in [Side::A, Side::B] {
        let (spec, mut modules, head) = random(&awkward(AdapterKind::Lora), 24).into_parts();
        for factors in modules.values_mut() {
            let tensor = factors.side(broken);
            // One direction repeated: rows of A, columns of B.
            let width = tensor.shape()[1];
            let value = |index: usize| match broken {
                Side::A => tensor.values()[index % width],
                Side::B => tensor.values()[index / width * width],
            };
            let repeated = Tensor::from_fn(tensor.shape(), value);
            factors.set(broken, repeated);
        }
        let previous = Adapter::new(spec, modules, head).expect("shapes as before");
        let result = step("fedsvd", "", &previous, &[(1.0, previous.clone())]).adapter;
        assert_close(&products(&result), &products(&previous), 40.0 * F32);
        assert_canonical(&result);
    }
}

#[test]
fn a_rank_above_the_input_width_is_refused() {
    let previous = random(&spec(AdapterKind::Lora, 4, &[(3, 9)]), 25);
    let error = step_of(&*strategy("fedsvd", ""), 1, &previous, &[(1.0, previous.clone())]).expect_err("no 4 rows");
    let AggregationError::InModule { source, .. } = error else { panic!("{error}") };
    assert!(matches!(*source, AggregationError::RankTooLarge { rank: 4, width: 3 }));
}

#[test]
fn between_periods_it_is_plain_averaging() {
    let strategy = strategy("fedsvd", "period = 3");
    let previous = random(&awkward(AdapterKind::Lora), 26);
    let clients = clients(&previous, 3, 0.3, 1);
    let plain = step("ffa-lora", "", &previous, &clients).adapter;
    for round in 1..=6 {
        let result = step_of(&*strategy, round, &previous, &clients).expect("valid updates").adapter;
        assert_eq!(result == plain, round % 3 != 0, "round {round}");
    }
}

#[test]
fn the_split_of_the_ablation_keeps_the_product_and_balances_the_factors() {
    let previous = random(&awkward(AdapterKind::Lora), 27);
    let clients = clients(&previous, 3, 0.3, 1);
    let result = step("fedsvd", "split = \"sqrt\"", &previous, &clients).adapter;
    assert_close(&products(&result), &mean_products(&as_sent(&previous, &clients)), 40.0 * F32);
    for (a, b) in factors(&result, Side::A).iter().zip(&factors(&result, Side::B)) {
        let (left, right) = (b.transpose() * b, a * a.transpose());
        assert!((&left - &right).amax() < 16.0 * F32 * left.amax());
    }
}

/// A client's least-squares problem `min ‖(B A) X - Y‖² / 2n` and plain gradient steps on `B`.
struct LeastSquares {
    x: Dense,
    y: Dense,
}

impl LeastSquares {
    fn train(&self, start: &Adapter, steps: usize, rate: f64) -> Adapter {
        let (spec, mut modules, head) = start.clone().into_parts();
        for factors in modules.values_mut() {
            let (a, mut b) = (dense(&factors.a), dense(&factors.b));
            for _ in 0..steps {
                let error = &b * &a * &self.x - &self.y;
                b -= error * (&a * &self.x).transpose() * (rate / self.x.ncols() as f64);
            }
            let columns = b.ncols();
            let b = Tensor::from_fn(factors.b.shape(), |index| b[(index / columns, index % columns)] as f32);
            *factors = LoraFactors { a: factors.a.clone(), b };
        }
        Adapter::new(spec, modules, head).expect("shapes as before")
    }
}

#[test]
fn under_gradient_descent_it_follows_ffa_with_orthonormal_a() {
    let spec = spec(AdapterKind::Lora, 3, &[(8, 5)]);
    let without_head = Arc::new(fedlora_adapter::AdapterSpec { head: BTreeMap::new(), ..(*spec).clone() });
    let start = initial(without_head, Init::Orthonormal, Seed(3), &|_| None).expect("rank 3 fits in width 8");
    let noise = |seed| products(&random(&crate::support::spec(AdapterKind::Lora, 9, &[(20, 8)]), seed)).remove(0) / 3.0;
    let problems: Vec<_> = (0..4)
        .map(|client| {
            let truth = Dense::from_fn(5, 8, |i, j| ((i * 8 + j + client) % 7) as f64 / 3.0 - 1.0);
            let x = noise(client as u64);
            LeastSquares { y: truth * &x, x }
        })
        .collect();
    let (mut turning, mut fixed) = (start.clone(), start.clone());
    for round in 1..=30 {
        let train =
            |from: &Adapter| -> Vec<_> { problems.iter().map(|problem| (1.0, problem.train(from, 5, 0.02))).collect() };
        turning = step_of(&*strategy("fedsvd", ""), round, &turning, &train(&turning)).expect("valid").adapter;
        fixed = step_of(&*strategy("ffa-orthonormal", ""), round, &fixed, &train(&fixed)).expect("valid").adapter;
        // In exact arithmetic they are equal; each of 30 rounds stores both factors as f32, and descent does not
        // amplify errors.
        assert_close(&products(&turning), &products(&fixed), 4.0 * F32 * round as f64);
    }
    let turned = factors(&turning, Side::A).remove(0) - factors(&fixed, Side::A).remove(0);
    assert!(turned.amax() > 0.1, "the bases must differ for this to say anything");
    assert!(products(&turning)[0].amax() > 0.1, "something must be learned for this to say anything");
}
