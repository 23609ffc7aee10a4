//! Laws that hold for every row of the registry, for every adapter kind it serves, with every round number's parity.

use fedlora_adapter::{
    Adapter, AdapterError, AdapterUpdate, Directive, Factors, HeadPolicy, ModuleName, RoundId, Side, TensorRef,
    TensorSource, UpdateSource,
};
use fedlora_aggregation::{AggregationError, METHODS, Strategy, aggregate};

use crate::support::{
    F32, assert_close, awkward, clients, factors, near, products, random, spec, step_of, strategy, weighted,
};

/// Every method with its default parameters, over a random global adapter of every kind that it serves.
fn for_all(law: impl Fn(&dyn Strategy, u64, &Adapter)) {
    for method in METHODS {
        let strategy = strategy(method.name, "");
        for &kind in method.kinds {
            for round in [1, 2] {
                law(&*strategy, round, &random(&awkward(kind), 42));
            }
        }
    }
}

/// Updates that the method needs at least.
fn fewest(strategy: &dyn Strategy) -> usize {
    (1..100).find(|&count| strategy.check_count(count).is_ok()).expect("defaults serve some number of clients")
}

/// Whether clients count by their weights. Methods that are to withstand liars cannot believe weights, and need enough
/// clients to outvote one.
fn weighs(strategy: &dyn Strategy) -> bool {
    fewest(strategy) == 1
}

/// The client's adapter as the server may know it: what is not sent is as before.
fn as_sent(strategy: &dyn Strategy, round: u64, previous: &Adapter, client: &Adapter) -> Adapter {
    let directive = strategy.directive(RoundId(round));
    AdapterUpdate::select(client, directive).complete(previous).expect("one specification")
}

#[test]
fn agreement_is_a_fixed_point_of_the_product() {
    for_all(|strategy, round, previous| {
        let client = near(previous, 0.3, 7);
        for count in [fewest(strategy), 5] {
            let agreeing: Vec<_> = (0..count).map(|k| (k as f64 + 0.3, client.clone())).collect();
            let result = step_of(strategy, round, previous, &agreeing).expect("valid updates");
            let expected = as_sent(strategy, round, previous, &client);
            // Storing two factors of rank 3 as f32, entries of a product being sums of 3 terms.
            assert_close(&products(&result.adapter), &products(&expected), 20.0 * F32);
            assert_eq!(result.adapter.head(), expected.head());
            assert!(result.residual.is_none_or(|residual| residual < 1e-6), "{strategy:?}: {:?}", result.residual);
        }
    });
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    for_all(|strategy, round, previous| {
        // Huge values that all but cancel: a sum in another order would differ long before the last bit of f32.
        let clients: Vec<_> =
            [(3.0, 1e11, 1), (1.0, 0.5, 2), (2.0, -1e11, 1), (3.0, -1e11, 1), (5.0, 0.5, 3), (2.0, 1e11, 1)]
                .into_iter()
                .map(|(weight, size, seed)| (weight, near(previous, size, seed)))
                .collect();
        let mut updates: Vec<_> = (0..).zip(&clients).map(|(id, (weight, one))| weighted(id, *weight, one)).collect();
        let forward = aggregate(strategy, RoundId(round), previous, &updates).expect("valid updates");
        updates.rotate_left(2);
        updates.swap(0, 3);
        let shuffled = aggregate(strategy, RoundId(round), previous, &updates).expect("valid updates");
        assert_eq!(forward, shuffled);
    });
}

#[test]
fn only_relative_weights_matter() {
    for_all(|strategy, round, previous| {
        let clients = clients(previous, 5, 0.5, 2);
        let scaled = |factor: f64| {
            let clients: Vec<_> = clients.iter().map(|(weight, one)| (weight * factor, one.clone())).collect();
            step_of(strategy, round, previous, &clients).expect("valid updates")
        };
        let plain = scaled(1.0);
        assert_eq!(plain, scaled(8.0), "a power of two is exact");
        assert_close(&products(&plain.adapter), &products(&scaled(0.3).adapter), 20.0 * F32);
    });
}

#[test]
fn a_client_of_weight_zero_changes_nothing() {
    for_all(|strategy, round, previous| {
        let mut clients = clients(previous, 6, 0.5, 3);
        let without = step_of(strategy, round, previous, &clients).expect("valid updates");
        clients.push((0.0, near(previous, 9.0, 4)));
        let with = step_of(strategy, round, previous, &clients).expect("valid updates");
        assert_eq!(without.adapter, with.adapter);
    });
}

#[test]
fn the_number_of_threads_does_not_matter() {
    // One module wide enough for several blocks, so that threads share a tensor too.
    for method in METHODS {
        let strategy = strategy(method.name, "");
        let previous = random(&spec(method.kinds[0], 3, &[(9000, 40), (7, 5), (40, 9000)]), 5);
        let clients = clients(&previous, 5, 0.5, 5);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| step_of(&*strategy, 1, &previous, &clients).expect("valid updates"))
        };
        assert_eq!(on(1), on(2), "{}", method.name);
        assert_eq!(on(1), on(5), "{}", method.name);
    }
}

#[test]
fn what_a_client_was_not_asked_for_cannot_influence_the_result() {
    for_all(|strategy, round, previous| {
        let honest = clients(previous, 5, 0.5, 6);
        let directive = strategy.directive(RoundId(round));
        let tampered: Vec<_> = honest
            .iter()
            .map(|(weight, one)| {
                let (spec, mut modules, mut head) = one.clone().into_parts();
                let other = near(one, 5.0, 8);
                for side in [Side::A, Side::B].into_iter().filter(|side| !directive.upload.contains(*side)) {
                    for (name, factors) in &mut modules {
                        factors.set(side, other.modules()[name].side(side).clone());
                    }
                }
                if directive.head != HeadPolicy::Shared {
                    head.clone_from(other.head());
                }
                (*weight, Adapter::new(spec, modules, head).expect("shapes as before"))
            })
            .collect();
        let expected = step_of(strategy, round, previous, &honest).expect("valid updates");
        assert_eq!(step_of(strategy, round, previous, &tampered).expect("valid updates"), expected);
    });
}

#[test]
fn the_head_follows_the_clients_exactly_where_the_directive_shares_it() {
    for method in METHODS {
        for (head, text) in
            [(HeadPolicy::Frozen, "frozen"), (HeadPolicy::Shared, "shared"), (HeadPolicy::Personal, "personal")]
        {
            let strategy = strategy(method.name, &format!("head = \"{text}\""));
            assert_eq!(strategy.directive(RoundId(1)).head, head);
            let previous = random(&awkward(method.kinds[0]), 1);
            let clients: Vec<_> = if weighs(&*strategy) {
                [1.0, 3.0].into_iter().zip(1..).map(|(weight, seed)| (weight, near(&previous, 1.0, seed))).collect()
            } else {
                clients(&previous, 6, 1.0, 1)
            };
            let result = step_of(&*strategy, 1, &previous, &clients).expect("valid updates").adapter;
            for (name, found) in result.head() {
                for (index, &found) in found.values().iter().enumerate() {
                    let kept = previous.head()[name].values()[index];
                    let sent: Vec<f32> = clients.iter().map(|(_, one)| one.head()[name].values()[index]).collect();
                    if head != HeadPolicy::Shared {
                        assert_eq!(found.to_bits(), kept.to_bits());
                    } else if weighs(&*strategy) {
                        let mean = (0.25 * f64::from(sent[0]) + 0.75 * f64::from(sent[1])) as f32;
                        assert_eq!(found.to_bits(), mean.to_bits());
                    } else {
                        // What the value is depends on the method; all of them stay among the clients.
                        let range = sent.iter().fold((found, found), |(low, high), &x| (x.min(low), x.max(high)));
                        assert!(sent.contains(&range.0) && sent.contains(&range.1), "{}: {found}", method.name);
                        assert!(found.to_bits() != kept.to_bits(), "{}", method.name);
                    }
                }
            }
        }
    }
}

#[test]
fn both_factors_are_defined_by_the_round_alone_where_nothing_is_sent() {
    for_all(|strategy, round, previous| {
        if strategy.directive(RoundId(round)).upload == Factors::Neither {
            let result = step_of(strategy, round, previous, &clients(previous, 3, 1.0, 1)).expect("valid updates");
            assert_eq!(factors(&result.adapter, Side::A), factors(previous, Side::A));
            assert_eq!(factors(&result.adapter, Side::B), factors(previous, Side::B));
        }
    });
}

/// An update that no constructor of the adapter crate would let through.
struct Rotten<'a>(&'a Adapter, Vec<f32>);

impl UpdateSource for Rotten<'_> {
    fn factor(&self, module: &ModuleName, side: Side) -> Option<TensorSource<'_>> {
        let shape = self.0.modules()[module].side(side).shape();
        Some(TensorSource::Memory(TensorRef { shape, values: &self.1[..shape.iter().product()] }))
    }

    fn extra(&self, name: &str) -> Option<TensorSource<'_>> {
        let shape = self.0.head()[name].shape();
        Some(TensorSource::Memory(TensorRef { shape, values: &self.1[..shape.iter().product()] }))
    }
}

#[test]
fn not_a_number_never_leaves_even_if_it_entered() {
    for_all(|strategy, round, previous| {
        if strategy.directive(RoundId(round)).upload == Factors::Neither {
            return;
        }
        for poison in [f32::NAN, f32::INFINITY] {
            let rotten = Rotten(previous, vec![poison; 100]);
            let sound = (0..6).map(|client| weighted(client, 1.0, previous));
            let updates: Vec<_> = sound.chain([weighted(6, 1.0, &rotten)]).collect();
            let result = aggregate(strategy, RoundId(round), previous, &updates);
            // A method that leaves updates out may leave this one out: then an adapter exists, and is finite.
            let is_left_out = result.is_ok() && !weighs(strategy);
            let is_refused = matches!(result, Err(AggregationError::Adapter(AdapterError::NotFinite { .. })));
            assert!(is_left_out || is_refused, "{result:?}");
        }
    });
}

#[test]
fn weights_that_give_no_shares_are_refused() {
    let previous = random(&awkward(fedlora_adapter::AdapterKind::Lora), 1);
    let strategy = strategy("fedavg", "");
    let with = |weights: &[f64]| {
        let clients: Vec<_> = weights.iter().map(|&weight| (weight, previous.clone())).collect();
        step_of(&*strategy, 1, &previous, &clients).expect_err("no shares")
    };
    assert!(matches!(with(&[]), AggregationError::NoUpdates));
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        assert!(matches!(with(&[1.0, bad]), AggregationError::BadWeight { .. }));
    }
    assert!(matches!(with(&[0.0, 0.0]), AggregationError::BadWeightSum { .. }));
    assert!(matches!(with(&[f64::MAX, f64::MAX]), AggregationError::BadWeightSum { .. }));
}

#[test]
fn a_client_counts_once() {
    let previous = random(&awkward(fedlora_adapter::AdapterKind::Lora), 1);
    let updates = [weighted(3, 1.0, &previous), weighted(1, 1.0, &previous), weighted(3, 1.0, &previous)];
    let result = aggregate(&*strategy("fedavg", ""), RoundId(1), &previous, &updates);
    assert!(matches!(result, Err(AggregationError::DuplicateClient { client }) if client.0 == 3));
}

#[test]
fn a_factor_of_another_shape_is_refused_with_its_module() {
    let previous = random(&awkward(fedlora_adapter::AdapterKind::Lora), 1);
    let other = random(&spec(fedlora_adapter::AdapterKind::Lora, 3, &[(7, 5), (6, 12)]), 1);
    let updates = [weighted(0, 1.0, &previous), weighted(1, 1.0, &other)];
    let result = aggregate(&*strategy("fedavg", ""), RoundId(1), &previous, &updates);
    let Err(AggregationError::InModule { module, source }) = result else { panic!("{result:?}") };
    assert_eq!(module.as_str(), "layer.1");
    assert!(matches!(*source, AggregationError::WrongShape { .. }));
}

#[test]
fn an_update_without_what_the_directive_asks_for_is_refused_with_its_client() {
    for method in METHODS {
        let strategy = strategy(method.name, "head = \"shared\"");
        let directive = strategy.directive(RoundId(1));
        let previous = random(&awkward(method.kinds[0]), 1);
        let only = |upload, head| AdapterUpdate::select(&previous, Directive { upload, head, ..directive });
        let run = |update: &AdapterUpdate| {
            let sound = (0..5).map(|client| weighted(client, 1.0, &previous));
            let updates: Vec<_> = sound.chain([weighted(5, 1.0, update)]).collect();
            aggregate(&*strategy, RoundId(1), &previous, &updates)
        };
        run(&only(directive.upload, HeadPolicy::Shared)).expect("what was asked for");
        for side in [Side::A, Side::B].into_iter().filter(|side| directive.upload.contains(*side)) {
            let other = if side == Side::A { Factors::B } else { Factors::A };
            let result = run(&only(other, HeadPolicy::Shared));
            let Err(AggregationError::InModule { source, .. }) = result else { panic!("{result:?}") };
            let is_named = matches!(*source, AggregationError::MissingFactor { client, side: missing }
                if client.0 == 5 && missing == side);
            assert!(is_named, "{}: {source}", method.name);
        }
        let result = run(&only(directive.upload, HeadPolicy::Personal));
        assert!(matches!(result, Err(AggregationError::MissingExtra { client, .. }) if client.0 == 5));
    }
}
