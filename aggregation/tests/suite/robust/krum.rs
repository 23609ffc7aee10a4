//! Krum and Multi-Krum: who is chosen, and how far that can be from the honest.

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, LoraFactors, Tensor};
use proptest::prelude::*;

use super::{Meeting, any_size, honest_and_all};
use crate::support::{apart, assert_close, awkward, clients, mean_products, products, random, spread, step};

/// The same update in another gauge: `(B G, G⁻¹ A)`, where `G` moves every direction to the next place and scales it by a
/// power of two, so that no value is rounded.
fn in_another_gauge(adapter: &Adapter) -> Adapter {
    let (spec, mut modules, head) = adapter.clone().into_parts();
    for factors in modules.values_mut() {
        let (rank, width) = (factors.a.shape()[0], factors.a.shape()[1]);
        let size = |direction: usize| if direction.is_multiple_of(2) { 64.0 } else { 1.0 / 32.0 };
        let b = |row: usize, direction: usize| factors.b.values()[row * rank + direction] * size(direction);
        let a = |direction: usize, column: usize| factors.a.values()[direction * width + column] / size(direction);
        let from = |place: usize| (place + 1) % rank;
        let turned_b = Tensor::from_fn(factors.b.shape(), |index| b(index / rank, from(index % rank)));
        let turned_a = Tensor::from_fn(factors.a.shape(), |index| a(from(index / width), index % width));
        *factors = LoraFactors { a: turned_a, b: turned_b };
    }
    Adapter::new(spec, modules, head).expect("shapes as before")
}

proptest! {
    #[test]
    fn krum_stays_within_a_multiple_of_the_honest_spread(size in any_size(), seed: u64) {
        let Meeting { previous, honest, everybody } = honest_and_all(9, 3, size, seed);
        let krum = step("krum", "num-malicious-nodes = 3\nhead = \"frozen\"", &previous, &everybody).adapter;
        // With h = n - f honest of spread s, some honest score is at most the mean one: the h - 2 smallest of an honest
        // client's h - 1 squared distances to honest ones, which sum to 2 h s² on average. The lowest score is no
        // higher. At least t = n - 2 f - 1 of what it sums over, the chosen one included, are distances to honest ones.
        // By Minkowski over these t, the chosen one is within sqrt(score / t) + sqrt(h s² / t) of the honest mean.
        let (h, t) = (6.0_f64, 2.0_f64);
        let factor = (2.0 * h * (h - 2.0) / ((h - 1.0) * t)).sqrt() + (h / t).sqrt();
        let moved = apart(&products(&krum), &mean_products(&honest));
        // The choice itself is rounded: distances are good to 1e-8 of the largest update that is near to others.
        let limit = factor * spread(&honest) * (1.0 + 1e-6);
        prop_assert!(moved <= limit, "{moved} above {limit}");
    }
}

#[test]
fn krum_returns_one_of_the_updates_with_its_head() {
    for kind in [AdapterKind::Lora, AdapterKind::Vera] {
        for seed in 0..10 {
            let previous = random(&awkward(kind), seed);
            let clients = clients(&previous, 7, 0.5, seed);
            let result = step("krum", "num-malicious-nodes = 2", &previous, &clients);
            assert_eq!(clients.iter().filter(|(_, one)| *one == result.adapter).count(), 1);
            assert!(result.residual.is_none_or(|residual| residual < 1e-7), "a single product has no mean but itself");
        }
    }
}

#[test]
fn krum_of_equal_scores_takes_the_lower_client() {
    // Two groups that mirror each other in their heads alone: every score occurs twice.
    let previous = random(&awkward(AdapterKind::Lora), 48);
    let shifted = |by: f32| {
        let (spec, modules, mut head) = previous.clone().into_parts();
        for tensor in head.values_mut() {
            *tensor = Tensor::from_fn(tensor.shape(), |_| by);
        }
        (1.0, Adapter::new(spec, modules, head).expect("shapes as before"))
    };
    let clients: Vec<_> = [4.0, -1.0, 1.0, -4.0, 8.0, -8.0].map(shifted).into();
    let result = step("krum", "", &previous, &clients).adapter;
    assert_eq!(result, clients[1].1);
}

#[test]
fn krum_chooses_by_the_head_too() {
    let previous = random(&awkward(AdapterKind::Lora), 49);
    let honest = clients(&previous, 7, 0.5, 3);
    let chosen = step("krum", "num-malicious-nodes = 2", &previous, &honest).adapter;
    let place = honest.iter().position(|(_, one)| *one == chosen).expect("one of them");
    let mut poisoned = honest.clone();
    let (spec, modules, mut head) = chosen.clone().into_parts();
    for tensor in head.values_mut() {
        *tensor = Tensor::from_fn(tensor.shape(), |index| 50.0 + tensor.values()[index]);
    }
    poisoned[place].1 = Adapter::new(spec, modules, head).expect("shapes as before");
    let result = step("krum", "num-malicious-nodes = 2", &previous, &poisoned).adapter;
    assert!(honest.iter().enumerate().any(|(index, (_, one))| index != place && *one == result));
    // A head that is not shared says nothing.
    let frozen = "num-malicious-nodes = 2\nhead = \"frozen\"";
    let of = |clients: &[_]| step("krum", frozen, &previous, clients).adapter;
    assert_eq!(of(&poisoned), of(&honest));
}

#[test]
fn krum_weighs_products_against_heads_by_the_scale() {
    let chosen = |alpha: f64| {
        let previous = random(&Arc::new(AdapterSpec { alpha, ..(*awkward(AdapterKind::Lora)).clone() }), 52);
        let client = |product: f32, shift: f32| {
            let (spec, mut modules, mut head) = previous.clone().into_parts();
            for factors in modules.values_mut() {
                factors.b.values_mut().iter_mut().for_each(|value| *value *= 1.0 + product);
            }
            head.values_mut().flat_map(Tensor::values_mut).for_each(|value| *value += shift);
            (1.0, Adapter::new(spec, modules, head).expect("shapes as before"))
        };
        // By their products the second is in the midst of the others, by their heads the fourth.
        let clients = [(0.0, 9.0), (0.1, 5.0), (0.2, 0.2), (5.0, 0.1), (9.0, 0.0)].map(|(b, head)| client(b, head));
        let result = step("krum", "", &previous, &clients).adapter;
        clients.iter().position(|(_, one)| *one == result)
    };
    assert_eq!((chosen(1e3), chosen(1e-3)), (Some(1), Some(3)));
}

#[test]
fn the_gauge_of_an_update_does_not_change_krums_choice_but_multi_krums() {
    for seed in 0..10 {
        let previous = random(&awkward(AdapterKind::Lora), seed);
        let honest = clients(&previous, 7, 0.5, seed);
        let krum = step("krum", "num-malicious-nodes = 2", &previous, &honest).adapter;
        let place = honest.iter().position(|(_, one)| *one == krum).expect("one of them");
        for other in [place, (place + 1) % 7] {
            let mut turned = honest.clone();
            turned[other].1 = in_another_gauge(&honest[other].1);
            // The same terms in another order, in f64.
            assert_close(&products(&turned[other].1), &products(&honest[other].1), 1e-14);
            let result = step("krum", "num-malicious-nodes = 2", &previous, &turned).adapter;
            assert_eq!(result, turned[place].1, "the same client");
            // Where factors are averaged, the one in another gauge is left out.
            let multi = step("multi-krum", "num-malicious-nodes = 2", &previous, &turned).adapter;
            let mut without = honest.clone();
            without.remove(other);
            assert!(apart(&products(&multi), &mean_products(&without)) < 2.0 * spread(&without));
        }
    }
}

#[test]
fn multi_krum_of_everybody_that_may_be_honest_is_their_mean() {
    let Meeting { previous, honest, everybody } = honest_and_all(9, 3, 1e3, 50);
    let multi = step("multi-krum", "num-malicious-nodes = 3", &previous, &everybody).adapter;
    assert_eq!(multi, step("fedavg", "", &previous, &honest).adapter);
    let single = step("multi-krum", "num-malicious-nodes = 3\nnum-nodes-to-select = 1", &previous, &everybody).adapter;
    assert!(honest.iter().any(|(_, one)| *one == single));
}
