//! A step that gives its result away part by part makes the same adapter, and holds no more of it than it may.

use std::collections::BTreeMap;

use fedlora_adapter::{Adapter, AdapterError, LoraFactors, ModuleName, RoundId, Tensor};
use fedlora_aggregation::{AggregationError, Destination, METHODS, Part, PrivateMean, aggregate_into};
use fedlora_privacy::{ClipBound, NoiseMode, SimulatedRng};

use crate::support::{clients, random, spec, step_of, strategy, weighted};

/// Keeps what it is given, and how much came at a time.
struct Taken {
    batch_bytes: usize,
    modules: BTreeMap<ModuleName, LoraFactors>,
    head: BTreeMap<String, Tensor>,
    names: Vec<String>,
    batches: Vec<usize>,
    /// Parts after which it takes no more.
    room: usize,
}

impl Taken {
    fn new(batch_bytes: usize) -> Self {
        let (modules, head, names, batches) = Default::default();
        Self { batch_bytes, modules, head, names, batches, room: usize::MAX }
    }

    fn adapter(self, previous: &Adapter) -> Adapter {
        Adapter::new(previous.spec().clone(), self.modules, self.head).expect("every part once")
    }
}

impl Destination for Taken {
    fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    fn take(&mut self, parts: Vec<Part<'_>>) -> Result<(), AggregationError> {
        self.batches.push(parts.len());
        for part in parts {
            if self.names.len() == self.room {
                return Err(AdapterError::Spec("no room").into());
            }
            match part {
                Part::Module { name, factors, .. } => {
                    self.names.push(name.to_string());
                    self.modules.insert(name.clone(), factors);
                }
                Part::Extra { name, tensor, .. } => {
                    self.names.push(name.to_owned());
                    self.head.insert(name.to_owned(), tensor);
                }
            }
        }
        Ok(())
    }
}

/// Seven modules of 4 * (7 + 5) * 3 = 144 bytes and a head of 60 and 12.
fn previous(kind: fedlora_adapter::AdapterKind) -> Adapter {
    random(&spec(kind, 3, &[(7, 5); 7]), 21)
}

fn threads(number: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(number).build().expect("threads")
}

#[test]
fn every_method_gives_the_same_parts_whatever_the_batches_and_the_threads() {
    for method in METHODS {
        let strategy = strategy(method.name, "");
        let previous = previous(method.kinds[0]);
        let clients = clients(&previous, 5, 0.4, 3);
        let expected = step_of(&*strategy, 1, &previous, &clients).expect("valid updates");
        let updates: Vec<_> = (0..).zip(&clients).map(|(id, (weight, one))| weighted(id, *weight, one)).collect();
        for (batch_bytes, number) in [(0, 1), (3_000, 2), (usize::MAX, 2)] {
            let mut taken = Taken::new(batch_bytes);
            let step = || aggregate_into(&*strategy, RoundId(1), &previous, &updates, &mut taken);
            let residual = threads(number).install(step).expect("valid updates");
            assert_eq!(residual.map(f64::to_bits), expected.residual.map(f64::to_bits), "{}", method.name);
            let order: Vec<String> =
                previous.head().keys().cloned().chain(previous.modules().keys().map(ToString::to_string)).collect();
            assert_eq!(taken.names, order, "{}", method.name);
            assert_eq!(taken.adapter(&previous), expected.adapter, "{}", method.name);
        }
    }
}

#[test]
fn a_batch_has_a_part_for_each_thread_or_as_many_as_there_is_room_for() {
    let (strategy, previous) = (strategy("fedavg", ""), previous(fedlora_adapter::AdapterKind::Lora));
    let clients = clients(&previous, 2, 0.4, 3);
    let updates: Vec<_> = (0..).zip(&clients).map(|(id, (weight, one))| weighted(id, *weight, one)).collect();
    // Two updates, and the result twice: 576 bytes for a module, 288 for the head.
    for (batch_bytes, number, expected) in
        [(0, 1, vec![1; 9]), (0, 3, vec![3, 3, 3]), (2_200, 1, vec![5, 3, 1]), (2_200, 4, vec![5, 4])]
    {
        let mut taken = Taken::new(batch_bytes);
        let step = || aggregate_into(&*strategy, RoundId(1), &previous, &updates, &mut taken);
        threads(number).install(step).expect("valid updates");
        taken.batches.retain(|parts| *parts > 0);
        assert_eq!(taken.batches, expected, "{batch_bytes} bytes, {number} threads");
    }
}

#[test]
fn a_destination_without_room_ends_the_step() {
    let (strategy, previous) = (strategy("fedavg", ""), previous(fedlora_adapter::AdapterKind::Lora));
    let clients = clients(&previous, 2, 0.4, 3);
    let updates: Vec<_> = (0..).zip(&clients).map(|(id, (weight, one))| weighted(id, *weight, one)).collect();
    for room in [0, 4, 8] {
        let mut taken = Taken { room, ..Taken::new(600) };
        let error = aggregate_into(&*strategy, RoundId(1), &previous, &updates, &mut taken).expect_err("no room");
        assert!(matches!(error, AggregationError::Adapter(AdapterError::Spec("no room"))), "{error}");
        assert_eq!(taken.names.len(), room);
    }
}

#[test]
fn a_private_step_gives_the_same_parts_from_the_same_noise() {
    let (strategy, previous) = (strategy("fedavg", ""), previous(fedlora_adapter::AdapterKind::Lora));
    let clients = clients(&previous, 4, 0.1, 5);
    let updates: Vec<_> = (0..).zip(&clients).map(|(id, (_, one))| weighted(id, 1.0, one)).collect();
    let mean = || PrivateMean::fixed(ClipBound::new(0.5).expect("a bound"), 1.0, 4.0, NoiseMode::Grid).expect("valid");
    let rng = || SimulatedRng::from_seed([7; 32]);
    let expected = mean().aggregate(&*strategy, RoundId(1), &previous, &updates, &mut rng()).expect("valid");
    let mut taken = Taken::new(600);
    mean().aggregate_into(&*strategy, RoundId(1), &previous, &updates, &mut rng(), &mut taken).expect("valid");
    assert_eq!(taken.adapter(&previous), expected.adapter);
}
