//! What the registry of adapter kinds says about means, held against the kinds' definitions on dense matrices.

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterUpdate, Averaging, Directive, Factors, HeadPolicy, KINDS, Side, VeraProjections,
};

use crate::support::{Dense, F32, clients, dense, factors, random, shares, spec, step};

/// Everything is trained and sent.
const SHARED: Directive =
    Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Shared };

/// A frozen weight.
fn frozen() -> Dense {
    Dense::from_fn(5, 7, |row, column| (1.3 * (row * 7 + column) as f64).sin())
}

/// The weight that a module has under some `b`, with everything else from `start`.
fn adapted(start: &Adapter, b: &Dense) -> Dense {
    let (spec, a) = (start.spec(), &factors(start, Side::A)[0]);
    match spec.kind {
        AdapterKind::Vera => {
            let projections = VeraProjections::new(spec);
            let (inner, outer) = (dense(&projections.a), dense(&projections.b));
            frozen() + Dense::from_diagonal(&b.column(0)) * outer * Dense::from_diagonal(&a.column(0)) * inner
        }
        // What was taken out of the base is the same for every `b`.
        AdapterKind::Lora | AdapterKind::Olora => frozen() + b * a * spec.scaling(),
        AdapterKind::LoraXs => frozen() + dense(&start.head()["layer.0.lora_B.weight"]) * b * a * spec.scaling(),
        AdapterKind::Dora => {
            let mut weight = frozen() + b * a * spec.scaling();
            let magnitudes = start.head()["layer.0.lora_magnitude_vector"].values();
            for (mut row, &magnitude) in weight.row_iter_mut().zip(magnitudes) {
                row *= f64::from(magnitude) / row.norm();
            }
            weight
        }
    }
}

#[test]
fn a_mean_of_b_over_a_common_a_is_the_mean_of_the_weights_for_the_kinds_that_say_so() {
    for row in KINDS {
        let start = random(&spec(row.kind, 3, &[(7, 5)]), 1);
        let clients = clients(&start, 4, 0.5, 2);
        let mean = step("ffa-lora", "", &start, &clients).adapter;
        let weights = clients.iter().map(|(_, client)| adapted(&start, &factors(client, Side::B)[0]));
        let expected: Dense = weights.zip(shares(&clients)).map(|(weight, share)| weight * share).sum();
        let gap = (adapted(&start, &factors(&mean, Side::B)[0]) - &expected).amax() / expected.amax();
        // Three products for each entry, of factors that were rounded to f32 and are a few times an entry's size.
        let is_exact = gap < 64.0 * F32;
        assert_eq!(is_exact, row.averaging != Averaging::Inexact, "{}: {gap:e}", row.name);
        assert!(is_exact || gap > 1e-3, "{}: {gap:e}", row.name);
    }
}

#[test]
fn a_plain_mean_is_the_mean_of_the_weights_for_the_kinds_that_say_so() {
    for row in KINDS {
        let start = random(&spec(row.kind, 3, &[(7, 5)]), 1);
        let clients = clients(&start, 4, 0.5, 2);
        // What clients may not change, or may not send, is the server's.
        let as_sent =
            |client: &Adapter| AdapterUpdate::select(client, SHARED).complete(&start).expect("one specification");
        let mean = step("fedavg", "", &start, &clients).adapter;
        let weight = |adapter: &Adapter| adapted(adapter, &factors(adapter, Side::B)[0]);
        let weights = clients.iter().map(|(_, client)| weight(&as_sent(client)));
        let expected: Dense = weights.zip(shares(&clients)).map(|(weight, share)| weight * share).sum();
        let gap = (weight(&mean) - &expected).amax() / expected.amax();
        // As above, with one product more.
        let is_exact = gap < 64.0 * F32;
        assert_eq!(is_exact, row.averaging == Averaging::Exact, "{}: {gap:e}", row.name);
        assert!(is_exact || gap > 1e-3, "{}: {gap:e}", row.name);
    }
}
