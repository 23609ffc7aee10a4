//! The same work on two devices: every family of models, every kind of adapter and every way of training, from the tiny models
//! of `golden/`.
//!
//! What it comes to on the CPU, with fused operations, is what the other tests hold against references; here it is what others
//! must come to.

pub(crate) mod training;
pub(crate) mod world;

use burn::tensor::Tensor as BurnTensor;
use fedlora_adapter::{ClientId, Factors, KINDS, RoundId, Seed};
use fedlora_learner::{
    Batch, Device, DropoutMasks, Generation, GroupedAdapter, Model, ParameterKey, generate, ops::cross_entropy,
};

use self::world::{FAMILIES, World, adapter};

pub(crate) use self::training::{plain, pretrained, private};

/// What a piece of work came to: vectors by name.
pub(crate) type Found = Vec<(String, Vec<f32>)>;

/// Logits, losses and the gradient of every trained tensor, for every family with every kind of adapter.
pub(crate) fn passes(device: &Device) -> Found {
    passes_of(device, |family| World::load(family, device))
}

/// The same for the models that `load` makes of the families.
pub(crate) fn passes_of(device: &Device, load: impl Fn(&str) -> World) -> Found {
    let mut found = Found::new();
    for family in FAMILIES {
        let world = load(family);
        let batch = world.whole();
        for row in KINDS {
            let adapter = adapter(&*world.model, row.kind, 0.0);
            let grouped = GroupedAdapter::new(&[&adapter], Factors::Both, true, device).unwrap();
            let grouped = grouped.with_examples(vec![world.dataset.len()]);
            found.extend(pass(&format!("{family}, {}", row.name), &*world.model, &batch, &grouped, None));
        }
    }
    found
}

/// The same for two clients in one pass, under dropout, and for every example by itself.
pub(crate) fn groups(device: &Device) -> Found {
    groups_of(device, |adapters| adapters)
}

/// The same with adapters that `change` was done to.
pub(crate) fn groups_of(device: &Device, change: fn(GroupedAdapter) -> GroupedAdapter) -> Found {
    let mut found = Found::new();
    for family in FAMILIES {
        let world = World::load(family, device);
        let (batch, count) = (world.whole(), world.dataset.len());
        for row in KINDS {
            let adapters = [0.0, 0.7].map(|shift| adapter(&*world.model, row.kind, shift));
            let [one, other] = &adapters;
            let clients = change(GroupedAdapter::new(&[one, other], Factors::Both, true, device).unwrap());
            let owners: Vec<usize> = (0..count).map(|example| usize::from(example > 0)).collect();
            let examples = clients.per_example(&owners);
            let clients = clients.with_examples(vec![1, count - 1]);
            let masks = || {
                let streams = (0..count as u64).map(|example| (ClientId(example % 2), example));
                Some(DropoutMasks::new(0.25, Seed(5), RoundId(2), streams))
            };
            for (what, grouped) in [("clients", clients), ("examples", examples)] {
                let name = format!("{family}, {}, {what}", row.name);
                found.extend(pass(&name, &*world.model, &batch, &grouped, masks()));
            }
        }
    }
    found
}

fn pass(
    name: &str,
    model: &dyn Model,
    batch: &Batch,
    grouped: &GroupedAdapter,
    mut dropout: Option<DropoutMasks>,
) -> Found {
    let logits = model.forward(batch, grouped, dropout.as_mut());
    let losses = cross_entropy(logits.clone(), batch.targets.ids());
    let gradients = grouped.gradients(&losses.clone().mean());
    let mut found =
        vec![(format!("{name}: logits"), values(logits.inner())), (format!("{name}: losses"), values(losses.inner()))];
    for (parameter, gradient) in grouped.parameters().iter().zip(gradients) {
        let key = match &parameter.key {
            ParameterKey::Factor(module, side) => format!("{side:?} of {module}"),
            ParameterKey::Head(name) => name.clone(),
        };
        found.push((format!("{name}: gradient of {key}"), values(gradient)));
    }
    found
}

/// The likeliest continuations of two prompts, by every decoder with an adapter and without.
pub(crate) fn texts(device: &Device) -> Vec<Vec<u32>> {
    let mut texts = Vec::new();
    for family in FAMILIES.iter().filter(|family| family.starts_with("decoders")) {
        let world = World::load(family, device);
        let generation = Generation { max_new_tokens: 12, ..Generation::default() };
        let adapter = adapter(&*world.model, KINDS[0].kind, 0.0);
        for adapter in [None, Some(&adapter)] {
            for prompt in [&[1, 5, 9][..], &[1, 30, 31, 32, 33, 34, 35]] {
                texts.push(generate(&*world.model, adapter, prompt, &generation).unwrap());
            }
        }
    }
    texts
}

fn values<const D: usize>(tensor: BurnTensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Holds every vector against its counterpart, relative to the largest value that is expected of it. Returns the largest
/// difference of all.
pub(crate) fn compare(found: &Found, expected: &Found, tolerance: f32) -> f32 {
    assert_eq!(found.len(), expected.len());
    let mut largest = 0.0_f32;
    for ((name, found), (expected_name, expected)) in found.iter().zip(expected) {
        assert_eq!((name, found.len()), (expected_name, expected.len()));
        let scale = expected.iter().fold(f32::MIN_POSITIVE, |scale, value| scale.max(value.abs()));
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let gap = (found - expected).abs() / scale;
            assert!(gap <= tolerance, "{name} [{index}]: {found}, expected {expected}: {gap:.1e} of the largest value");
            largest = largest.max(gap);
        }
    }
    largest
}

/// Holds the length of every difference against that of the vector that is expected. Returns the largest ratio.
pub(crate) fn compare_lengths(found: &Found, expected: &Found, tolerance: f32) -> f32 {
    assert_eq!(found.len(), expected.len());
    let length = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
    let mut largest = 0.0_f32;
    for ((name, found), (expected_name, expected)) in found.iter().zip(expected) {
        assert_eq!((name, found.len()), (expected_name, expected.len()));
        let gaps: Vec<f32> = found.iter().zip(expected).map(|(found, expected)| found - expected).collect();
        let ratio = length(&gaps) / length(expected).max(f32::MIN_POSITIVE);
        assert!(ratio <= tolerance, "{name}: {ratio:.1e} of its length");
        largest = largest.max(ratio);
    }
    largest
}
