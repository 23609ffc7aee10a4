//! `FlexLoRA`: what the best factors of one rank keep of the mean of the products, and what they lose.

use fedlora_adapter::{Adapter, AdapterKind, Side};
use fedlora_aggregation::AggregationError;
use proptest::prelude::*;

use crate::support::{
    Dense, F32, apart, assert_canonical, assert_close, awkward, clients, distance, factors, mean_products, products,
    random, spec, step, step_of, strategy,
};

/// The root of the squares of a matrix's singular values beyond the first `rank`: no matrix of this rank is nearer
/// (Eckart and Young 1936).
fn rest(matrix: &Dense, rank: usize) -> f64 {
    let mut values: Vec<f64> = matrix.clone().svd(false, false).singular_values.iter().copied().collect();
    values.sort_by(|first, second| second.total_cmp(first));
    values.iter().skip(rank).map(|value| value * value).sum::<f64>().sqrt()
}

proptest! {
    #[test]
    fn what_is_lost_is_the_rest_of_the_spectrum(
        rank in 1_usize..5, extra in 0_usize..7, d_out in 1_usize..10, count in 1_u64..6, seed: u64,
    ) {
        let previous = random(&spec(AdapterKind::Lora, rank, &[(rank + extra, d_out)]), seed);
        let clients = clients(&previous, count, 0.7, seed);
        let result = step("flexlora", "", &previous, &clients).adapter;
        let ideal = mean_products(&clients);
        // A norm over at most 11 x 9 entries, each a sum of at most 4 products of factors rounded once.
        let slack = 100.0 * F32 * ideal[0].norm();
        let (found, best) = (apart(&products(&result), &ideal), rest(&ideal[0], rank));
        prop_assert!((found - best).abs() <= slack, "{found} away, the best is {best}");
        assert_canonical(&result);
    }
}

#[test]
fn no_method_of_this_rank_comes_nearer_to_the_mean_of_the_products() {
    let previous = random(&awkward(AdapterKind::Lora), 51);
    let clients = clients(&previous, 5, 0.7, 1);
    let ideal = mean_products(&clients);
    let away = |method, parameters| distance(&products(&step(method, parameters, &previous, &clients).adapter), &ideal);
    let best = away("flexlora", "");
    for (method, parameters) in [("fedavg", ""), ("lora-fair", "lambda = 0.0")] {
        let other = away(method, parameters);
        assert!(best < other, "{method}: {other} against {best}");
    }
}

#[test]
fn clients_that_agree_on_one_factor_lose_nothing() {
    let previous = random(&awkward(AdapterKind::Lora), 52);
    for common in [Side::A, Side::B] {
        let clients: Vec<(f64, Adapter)> = clients(&previous, 6, 0.5, 2)
            .into_iter()
            .map(|(weight, one)| {
                let (spec, mut modules, head) = one.into_parts();
                for (name, factors) in &mut modules {
                    factors.set(common, previous.modules()[name].side(common).clone());
                }
                (weight, Adapter::new(spec, modules, head).expect("shapes as before"))
            })
            .collect();
        let result = step("flexlora", "", &previous, &clients);
        // Two factors of rank 3, each rounded once.
        assert_close(&products(&result.adapter), &mean_products(&clients), 40.0 * F32);
        assert!(result.residual.expect("both factors are sent") < 1e-6);
    }
}

#[test]
fn a_zero_product_leaves_a_zero_b_and_orthonormal_rows() {
    let previous = Adapter::zeros(awkward(AdapterKind::Lora)).expect("a usable specification");
    let result = step("flexlora", "", &previous, &[(1.0, previous.clone()), (2.0, previous.clone())]).adapter;
    assert!(factors(&result, Side::B).iter().all(|b| b.amax() == 0.0));
    assert_canonical(&result);
}

#[test]
fn a_rank_above_the_input_width_is_refused() {
    let previous = random(&spec(AdapterKind::Lora, 4, &[(3, 9)]), 53);
    let error = step_of(&*strategy("flexlora", ""), 1, &previous, &[(1.0, previous.clone())]).expect_err("no 4 rows");
    let AggregationError::InModule { source, .. } = error else { panic!("{error}") };
    assert!(matches!(*source, AggregationError::RankTooLarge { rank: 4, width: 3 }));
}
