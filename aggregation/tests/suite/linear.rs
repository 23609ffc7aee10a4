//! Methods that only average: what the mean keeps, what it loses, and how the loss is measured.

use fedlora_adapter::{Adapter, AdapterKind, AdapterUpdate, RoundId, Side, UpdateFile, UpdateSource, encode};
use fedlora_aggregation::aggregate;

use crate::support::{
    Dense, F32, assert_close, awkward, clients, distance, factors, mean_factors, mean_products, near, products, random,
    shares, spec, step, strategy, weighted,
};

fn lora() -> Adapter {
    random(&awkward(AdapterKind::Lora), 11)
}

#[test]
fn what_fedavg_loses_is_the_covariance_of_the_factors() {
    let previous = lora();
    let clients = clients(&previous, 4, 0.4, 1);
    let result = step("fedavg", "", &previous, &clients).adapter;
    let (mean_a, mean_b) = (mean_factors(&clients, Side::A), mean_factors(&clients, Side::B));
    let mut covariance: Vec<Dense> = mean_products(&clients).iter().map(|product| product * 0.0).collect();
    for (share, (_, client)) in shares(&clients).into_iter().zip(&clients) {
        let (a, b) = (factors(client, Side::A), factors(client, Side::B));
        for (index, sum) in covariance.iter_mut().enumerate() {
            *sum += (&b[index] - &mean_b[index]) * (&a[index] - &mean_a[index]) * share;
        }
    }
    let regained: Vec<Dense> =
        products(&result).iter().zip(&covariance).map(|(product, covariance)| product + covariance).collect();
    // The only error is the rounding of the two means to f32.
    assert_close(&regained, &mean_products(&clients), 10.0 * F32);
}

#[test]
fn fedavg_of_one_client_is_that_client_to_the_bit() {
    let previous = lora();
    let client = near(&previous, 0.4, 3);
    assert_eq!(step("fedavg", "", &previous, &[(17.0, client.clone())]).adapter, client);
}

#[test]
fn averaging_is_exact_while_a_is_frozen() {
    for method in ["ffa-lora", "ffa-orthonormal"] {
        let previous = lora();
        let clients = clients(&previous, 5, 0.4, 4);
        let result = step(method, "", &previous, &clients).adapter;
        assert_eq!(factors(&result, Side::A), factors(&previous, Side::A));
        let frozen: Vec<_> =
            clients.iter().map(|(weight, client)| (*weight, with_side(client, &previous, Side::A))).collect();
        assert_close(&products(&result), &mean_products(&frozen), 10.0 * F32);
    }
}

/// `adapter` with one factor of `other`.
fn with_side(adapter: &Adapter, other: &Adapter, side: Side) -> Adapter {
    let (spec, mut modules, head) = adapter.clone().into_parts();
    for (name, factors) in &mut modules {
        factors.set(side, other.modules()[name].side(side).clone());
    }
    Adapter::new(spec, modules, head).expect("shapes as before")
}

#[test]
fn fedsa_averages_a_as_fedavg_does_and_never_touches_b() {
    for (method, kind) in
        [("fedsa-lora", AdapterKind::Lora), ("fedsa-rslora", AdapterKind::Lora), ("fedsa-vera", AdapterKind::Vera)]
    {
        let previous = random(&awkward(kind), 12);
        let clients = clients(&previous, 4, 0.4, 5);
        let (sparse, full) = (step(method, "", &previous, &clients), step("fedavg", "", &previous, &clients));
        assert_eq!(factors(&sparse.adapter, Side::A), factors(&full.adapter, Side::A));
        assert_eq!(factors(&sparse.adapter, Side::B), factors(&previous, Side::B));
        assert_eq!(sparse.adapter.head(), previous.head());
        assert_eq!(sparse.residual, None);
    }
}

#[test]
fn the_residual_is_the_dense_one() {
    let previous = lora();
    for size in [1.0, 0.1, 1e-2, 1e-3] {
        let clients = clients(&previous, 6, size, 6);
        for method in ["fedavg", "lora-fair"] {
            let result = step(method, "", &previous, &clients);
            let expected = distance(&products(&result.adapter), &mean_products(&clients));
            let found = result.residual.expect("both factors are sent");
            // The dense difference of two products of size one is itself only good to about 1e-15.
            assert!((found - expected).abs() < 1e-7 * expected + 1e-14, "{method}: {found:e} against {expected:e}");
        }
    }
}

#[test]
fn updates_in_files_give_the_bytes_of_updates_in_memory() {
    // Wider than one block and than any header, so that the body is read apart from it.
    let previous = random(&spec(AdapterKind::Lora, 3, &[(9000, 40), (7, 5)]), 13);
    let strategy = strategy("fedavg", "");
    let directive = strategy.directive(RoundId(1));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let updates: Vec<_> =
        clients(&previous, 3, 0.4, 7).iter().map(|(_, client)| AdapterUpdate::select(client, directive)).collect();
    let files: Vec<_> = updates
        .iter()
        .enumerate()
        .map(|(index, update)| {
            let path = folder.path().join(index.to_string());
            let tensors = update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
            std::fs::write(&path, encode(tensors).expect("encodable")).expect("a writable folder");
            UpdateFile::open(&path, previous.spec(), directive).expect("valid")
        })
        .collect();
    let run = |sources: Vec<&dyn UpdateSource>| {
        let updates: Vec<_> = (0..).zip(sources).map(|(id, one)| weighted(id, 2.0, one)).collect();
        aggregate(&*strategy, RoundId(1), &previous, &updates).expect("valid updates")
    };
    let from_memory = run(updates.iter().map(|update| update as &dyn UpdateSource).collect());
    let from_files = run(files.iter().map(|file| file as &dyn UpdateSource).collect());
    assert_eq!(from_memory, from_files);
    let mapped: Vec<_> = files.into_iter().map(|file| file.mapped().expect("a file on disk")).collect();
    assert_eq!(from_memory, run(mapped.iter().map(|file| file as &dyn UpdateSource).collect()));
}

#[test]
fn many_clients_are_averaged_in_any_grouping() {
    // 1 to 9 clients: every remainder of the passes over the accumulators.
    // More than two blocks of the mean, the last of them short.
    let previous = random(&spec(AdapterKind::Vera, 3, &[(7, 40_000)]), 14);
    for count in 1..10 {
        let clients = clients(&previous, count, 0.4, 8);
        let result = step("fedavg", "", &previous, &clients).adapter;
        for side in [Side::A, Side::B] {
            assert_close(&factors(&result, side), &mean_factors(&clients, side), F32 * 1.01);
        }
    }
}

#[test]
fn local_training_leaves_the_global_adapter_alone() {
    let previous = lora();
    let result = step("local-only", "", &previous, &clients(&previous, 3, 0.4, 9));
    assert_eq!((result.adapter, result.residual), (previous, None));
}

#[test]
fn what_fedsa_sends_holds_neither_b_nor_a_head() {
    for (method, kind, b) in [
        ("fedsa-lora", AdapterKind::Lora, "lora_B"),
        ("fedsa-rslora", AdapterKind::Lora, "lora_B"),
        ("fedsa-vera", AdapterKind::Vera, "vera_lambda_b"),
    ] {
        let adapter = random(&awkward(kind), 15);
        let directive = strategy(method, "").directive(RoundId(1));
        let update = AdapterUpdate::select(&adapter, directive);
        let tensors = update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
        let bytes = encode(tensors).expect("encodable");
        let contains = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!contains(b) && !contains("head"), "{method}");
        assert_eq!(update.bytes(), adapter.modules().values().map(|factors| factors.a.bytes()).sum::<u64>());
    }
}

#[test]
fn a_residual_that_would_cost_too_much_is_left_out() {
    // Two Grams of 100 * 100 columns over widths of 60: 1.2e10 operations.
    let previous = random(&spec(AdapterKind::Lora, 100, &[(60, 60)]), 16);
    let result = step("fedavg", "", &previous, &clients(&previous, 100, 0.4, 10));
    assert_eq!(result.residual, None);
    assert!(step("fedavg", "", &previous, &clients(&previous, 1, 0.4, 10)).residual.is_some());
}
