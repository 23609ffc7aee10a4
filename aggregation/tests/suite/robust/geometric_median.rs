//! The geometric median: what it minimises, and how far a minority can move it.

use fedlora_adapter::{Adapter, AdapterKind, Side};
use proptest::prelude::*;

use super::{Meeting, all, any_size, changed, honest_and_all};
use crate::support::{Dense, F32, awkward, clients, factors, mean_factors, near, random, step};

proptest! {
    #[test]
    fn the_geometric_median_stays_within_a_multiple_of_the_honest_distances(size in any_size(), seed: u64) {
        let Meeting { previous, honest, everybody } = honest_and_all(9, 3, size, seed);
        let result = step("geometric-median", "iterations = 200", &previous, &everybody).adapter;
        for side in [Side::A, Side::B] {
            let means = mean_factors(&honest, side);
            let honest = all(&honest, |one| factors(one, side));
            for (module, found) in factors(&result, side).iter().enumerate() {
                let distances = honest.iter().map(|one| (&one[module] - &means[module]).norm());
                // h honest, f not: V is no worse than the mean M of the honest, sum |X - V| <= sum |X - M|. An honest
                // term falls by at most |X - M| and grows by |V - M| - 2 |X - M| at least; the others fall by |V - M|
                // at most. So (h - f) |V - M| <= 2 sum |X - M| over the honest. Hundreds of steps leave far less than
                // the percent that is added.
                let limit = 2.0 / (6.0 - 3.0) * distances.sum::<f64>() * 1.01;
                let moved = (found - &means[module]).norm();
                prop_assert!(moved <= limit, "{moved} above {limit}");
            }
        }
    }

}

#[test]
fn the_geometric_median_minimises_the_sum_of_distances() {
    for kind in [AdapterKind::Lora, AdapterKind::Vera] {
        let previous = random(&awkward(kind), 46);
        let mut clients = clients(&previous, 7, 0.5, 1);
        clients[2].1 = near(&previous, 20.0, 2);
        let result = step("geometric-median", "iterations = 500", &previous, &clients).adapter;
        for side in [Side::A, Side::B] {
            let points = all(&clients, |one| factors(one, side));
            for (module, found) in factors(&result, side).iter().enumerate() {
                let sum = |at: &Dense| points.iter().map(|one| (&one[module] - at).norm()).sum::<f64>();
                // The slope, a sum of seven unit vectors, vanishes but for the rounding of the point to f32, which
                // turns a unit vector by that much over the distance, which is above a half.
                let slope = points.iter().map(|one| (found - &one[module]).normalize()).sum::<Dense>();
                assert!(slope.norm() < 7.0 * 2.0 * F32 * found.norm(), "{}", slope.norm());
                // The sum is convex, so a vanishing slope is enough; these say it in the method's own words.
                let moved =
                    |by: f64| found.map_with_location(|i, j, x| x + by * ((i * 5 + j * 3) % 7) as f64 - 3.0 * by);
                let others = points.iter().map(|one| one[module].clone());
                for other in others.chain([moved(1e-3), moved(-1e-3), moved(1.0)]) {
                    assert!(sum(found) < sum(&other));
                }
            }
        }
    }
}

#[test]
fn the_geometric_median_does_not_depend_on_the_unit() {
    let previous = random(&awkward(AdapterKind::Lora), 47);
    let clients = clients(&previous, 6, 0.5, 1);
    let plain = step("geometric-median", "", &previous, &clients).adapter;
    // Powers of two scale without rounding, so every step is the same.
    for unit in [2.0_f32.powi(-40), 2.0_f32.powi(40)] {
        let scaled = |one: &Adapter| changed(one, |value| unit * value);
        let clients: Vec<_> = clients.iter().map(|(weight, one)| (*weight, scaled(one))).collect();
        assert_eq!(step("geometric-median", "", &scaled(&previous), &clients).adapter, scaled(&plain));
    }
}

#[test]
fn a_client_in_the_midst_of_the_others_is_the_geometric_median() {
    let centre = random(&awkward(AdapterKind::Lora), 48);
    let moved = |distance: f32, degrees: f32| {
        let (spec, mut modules, head) = centre.clone().into_parts();
        for values in modules.values_mut().flat_map(|one| [one.a.values_mut(), one.b.values_mut()]) {
            values[0] += distance * degrees.to_radians().cos();
            values[1] += distance * degrees.to_radians().sin();
        }
        (1.0, Adapter::new(spec, modules, head).expect("shapes as before"))
    };
    // Three directions cancel, and the other two pull with a strength of 0.68: less than the one client resists.
    let around = [(1.0, 0.0), (2.0, 120.0), (3.0, 240.0), (1.0, 60.0), (2.0, 200.0)];
    let clients: Vec<_> =
        [(1.0, centre.clone())].into_iter().chain(around.map(|(distance, degrees)| moved(distance, degrees))).collect();
    let result = step("geometric-median", "iterations = 500", &centre, &clients).adapter;
    for side in [Side::A, Side::B] {
        for (found, centre) in factors(&result, side).iter().zip(factors(&centre, side)) {
            // Smoothing lets it be pulled by a millionth of the median distance, which is below 3; then it is rounded.
            assert!((found - &centre).norm() < 3e-6 + F32 * centre.norm());
        }
    }
}
