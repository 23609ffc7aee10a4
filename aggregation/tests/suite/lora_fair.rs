//! LoRA-FAIR: what the correction can and cannot regain.

use fedlora_adapter::{Adapter, AdapterKind, Side, Tensor};
use proptest::prelude::*;

use crate::support::{
    Dense, F32, assert_close, awkward, clients, distance, factors, mean_factors, mean_products, products, random, spec,
    step,
};

fn fair(lambda: f64, previous: &Adapter, clients: &[(f64, Adapter)]) -> Adapter {
    step("lora-fair", &format!("lambda = {lambda:?}"), previous, clients).adapter
}

/// `(B A - dW*) Āᵀ` of every module, relative to the norms of its factors: 0 where the residual leaves nothing to `B`.
fn slope(adapter: &Adapter, clients: &[(f64, Adapter)]) -> Vec<Dense> {
    let errors = products(adapter).into_iter().zip(mean_products(clients)).map(|(found, mean)| found - mean);
    errors.zip(mean_factors(clients, Side::A)).map(|(error, a)| error * a.transpose()).collect()
}

proptest! {
    #[test]
    fn the_residual_grows_with_lambda_and_never_exceeds_that_of_averaging(
        rank in 1_usize..5, d_in in 1_usize..9, d_out in 1_usize..9, count in 1_u64..6, seed: u64,
    ) {
        let previous = random(&spec(AdapterKind::Lora, rank, &[(d_in, d_out)]), seed);
        let clients = clients(&previous, count, 0.7, seed);
        let ideal = mean_products(&clients);
        let residual = |adapter: &Adapter| distance(&products(adapter), &ideal);
        let averaged = residual(&step("fedavg", "", &previous, &clients).adapter);
        let mut last = 0.0;
        for lambda in [0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0] {
            let now = residual(&fair(lambda, &previous, &clients));
            // Factors are stored as f32: products of norm about one to five carry that much error.
            let slack = 40.0 * F32 * previous_scale(&previous, &ideal);
            prop_assert!(now >= last - slack, "lambda {lambda}: {now} after {last}");
            prop_assert!(now <= averaged + slack, "lambda {lambda}: {now} above {averaged}");
            last = now;
        }
    }
}

/// How much larger `‖B‖ ‖A‖` may be than the ideal product, relative to which residuals are taken.
fn previous_scale(previous: &Adapter, ideal: &[Dense]) -> f64 {
    let norm = |side| factors(previous, side).iter().map(Dense::norm).sum::<f64>() + 1.0;
    1.0 + 4.0 * norm(Side::A) * norm(Side::B) / ideal.iter().map(Dense::norm).sum::<f64>()
}

#[test]
fn without_penalty_the_product_is_the_ideal_one_projected_on_the_rows_of_a() {
    let previous = random(&awkward(AdapterKind::Lora), 31);
    let clients = clients(&previous, 5, 0.5, 1);
    let result = fair(0.0, &previous, &clients);
    let projected: Vec<Dense> = mean_products(&clients)
        .into_iter()
        .zip(mean_factors(&clients, Side::A))
        .map(|(ideal, a)| {
            let q = a.transpose().qr().q();
            ideal * &q * q.transpose()
        })
        .collect();
    assert_close(&products(&result), &projected, 20.0 * F32);
}

#[test]
fn the_correction_is_stationary() {
    let previous = random(&awkward(AdapterKind::Lora), 32);
    let clients = clients(&previous, 5, 0.5, 2);
    for lambda in [0.0, 0.01, 1.0] {
        let result = fair(lambda, &previous, &clients);
        let (mean_a, mean_b) = (mean_factors(&clients, Side::A), mean_factors(&clients, Side::B));
        let corrected = factors(&result, Side::B);
        for (index, slope) in slope(&result, &clients).iter().enumerate() {
            let gram = &mean_a[index] * mean_a[index].transpose();
            let mu = lambda * gram.trace() / gram.nrows() as f64;
            let gradient = slope + (&corrected[index] - &mean_b[index]) * mu;
            // Storing B as f32 moves the gradient by that much of ‖B‖ ‖G + mu I‖.
            assert!(gradient.amax() < 8.0 * F32 * corrected[index].norm() * (gram.norm() + mu));
        }
    }
}

#[test]
fn a_large_penalty_a_common_a_or_a_single_client_leave_plain_averaging() {
    let previous = random(&awkward(AdapterKind::Lora), 33);
    let different = clients(&previous, 4, 0.5, 3);
    assert_eq!(fair(1e15, &previous, &different), step("fedavg", "", &previous, &different).adapter);
    let single = &different[..1];
    assert_eq!(fair(0.01, &previous, single).modules(), single[0].1.modules());
    let common: Vec<_> = different
        .iter()
        .map(|(weight, one)| {
            let (spec, mut modules, head) = one.clone().into_parts();
            for (name, factors) in &mut modules {
                factors.a = previous.modules()[name].a.clone();
            }
            (*weight, Adapter::new(spec, modules, head).expect("shapes as before"))
        })
        .collect();
    assert_eq!(fair(0.01, &previous, &common), step("fedavg", "", &previous, &common).adapter);
}

#[test]
fn no_correction_beats_the_best_product_of_the_same_rank() {
    let previous = random(&awkward(AdapterKind::Lora), 34);
    let clients = clients(&previous, 5, 1.0, 4);
    let ideal = mean_products(&clients);
    let best: Vec<Dense> = ideal
        .iter()
        .map(|ideal| {
            let svd = ideal.clone().svd(true, true);
            let mut values = svd.singular_values.clone();
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&first, &second| values[second].total_cmp(&values[first]));
            order.into_iter().skip(3).for_each(|index| values[index] = 0.0);
            svd.u.expect("asked for") * Dense::from_diagonal(&values) * svd.v_t.expect("asked for")
        })
        .collect();
    let residual = |products: &[Dense]| distance(products, &ideal);
    let (averaged, corrected) = (step("fedavg", "", &previous, &clients).adapter, fair(0.0, &previous, &clients));
    assert!(residual(&best) < residual(&products(&corrected)));
    assert!(residual(&products(&corrected)) < residual(&products(&averaged)), "there is something to regain");
}

#[test]
fn a_deficient_mean_of_a_is_no_obstacle_without_penalty() {
    let (spec, mut modules, head) = random(&awkward(AdapterKind::Lora), 35).into_parts();
    for factors in modules.values_mut() {
        let width = factors.a.shape()[1];
        let first: Vec<f32> = factors.a.values()[..width].to_vec();
        factors.a = Tensor::from_fn(factors.a.shape(), |index| first[index % width]);
    }
    let previous = Adapter::new(spec, modules, head).expect("shapes as before");
    // Opposite changes of A cancel in the mean, which so stays of rank one; only one of each pair changes B.
    let changed = clients(&previous, 2, 0.5, 5);
    let mirrored: Vec<_> = changed
        .iter()
        .map(|(_, one)| {
            let (spec, mut modules, head) = one.clone().into_parts();
            for (name, factors) in &mut modules {
                let (start, now) = (&previous.modules()[name].a, factors.a.clone());
                let mirror = |index: usize| 2.0 * start.values()[index] - now.values()[index];
                factors.a = Tensor::from_fn(now.shape(), mirror);
                factors.b = previous.modules()[name].b.clone();
            }
            (1.0, Adapter::new(spec, modules, head).expect("shapes as before"))
        })
        .collect();
    let clients: Vec<_> = changed.into_iter().map(|(_, one)| (1.0, one)).chain(mirrored).collect();
    let result = fair(0.0, &previous, &clients);
    let averaged = step("fedavg", "", &previous, &clients).adapter;
    let ideal = mean_products(&clients);
    assert!(distance(&products(&result), &ideal) < distance(&products(&averaged), &ideal));
}

#[test]
fn the_cosine_mode_turns_the_product_towards_the_ideal_one() {
    let previous = random(&awkward(AdapterKind::Lora), 36);
    let clients = clients(&previous, 5, 0.7, 6);
    let ideal = mean_products(&clients);
    let cosines = |adapter: &Adapter| -> Vec<f64> {
        products(adapter)
            .iter()
            .zip(&ideal)
            .map(|(found, ideal)| found.dot(ideal) / found.norm() / ideal.norm())
            .collect()
    };
    let averaged = cosines(&step("fedavg", "", &previous, &clients).adapter);
    let turned = cosines(&step("lora-fair", "mode = \"cosine\"\nlambda = 0.0001", &previous, &clients).adapter);
    // Within the rows of the mean A nothing is closer in angle than the projection, whatever its length.
    let projected = cosines(&fair(0.0, &previous, &clients));
    for ((averaged, turned), projected) in averaged.into_iter().zip(turned).zip(projected) {
        assert!(averaged < turned && turned <= projected + 8.0 * F32, "{averaged} {turned} {projected}");
    }
}
