//! What clients train, and the mean of it, computed here once more.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use fedlora_adapter::{Adapter, AdapterUpdate, ClientId, Digest, LoraFactors, Purpose, Seed, Side, Tensor, encode};
use fedlora_aggregation::Weighting;
use rand::RngExt;
use tonic::codegen::Bytes;

use crate::{CurrentRound, UpdateMeta};

/// How much one round moves a value: less than the coordinator allows for three steps at a rate of 0.1.
const REACH: f32 = 0.5;

/// What was trained, by the digest of its file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    trained: BTreeMap<Digest, Rc<Adapter>>,
    files: BTreeMap<Digest, Bytes>,
    spoilt: BTreeSet<Digest>,
}

/// How a training goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Training {
    /// Trainings of one task with different numbers give different updates.
    pub(super) attempt: u64,
    /// A value of the file is no number.
    pub(super) is_spoilt: bool,
}

impl Contents {
    /// Trains from a global adapter; returns the description and the file of the update.
    pub(super) fn train(
        &mut self,
        client: ClientId,
        examples: u64,
        round: &CurrentRound,
        global: &Adapter,
        training: Training,
    ) -> (UpdateMeta, Bytes) {
        let adapter = moved(global, client, round, training);
        let update = AdapterUpdate::select(&adapter, round.plan.directive);
        let tensors = update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
        let mut file = encode(tensors).expect("small");
        if training.is_spoilt {
            // The last value: no tensor in memory can hold this.
            let last = file.len() - size_of::<f32>();
            file[last..].copy_from_slice(&f32::NAN.to_le_bytes());
            self.spoilt.insert(Digest::of(&file));
        }
        let file = Bytes::from(file);
        let blob = Digest::of(&file);
        self.trained.insert(blob, Rc::new(adapter));
        self.files.insert(blob, file.clone());
        let update = UpdateMeta {
            client,
            run: round.run,
            round: round.plan.round,
            spec: round.plan.spec,
            base: round.plan.base,
            blob,
            size_bytes: file.len() as u64,
            examples,
            steps: 3,
            train_loss: Some(0.5),
        };
        (update, file)
    }

    /// Whether nothing is wrong with an update.
    pub(super) fn is_valid(&self, blob: Digest) -> bool {
        !self.spoilt.contains(&blob)
    }

    pub(super) fn file(&self, blob: Digest) -> Bytes {
        self.files[&blob].clone()
    }

    /// The mean of exactly these updates, in client order, with sums in f64 that are rounded once.
    pub(super) fn mean<'a>(&self, updates: impl IntoIterator<Item = &'a UpdateMeta>, weighting: Weighting) -> Adapter {
        let weight = |update: &UpdateMeta| match weighting {
            Weighting::Examples => update.examples as f64,
            Weighting::Uniform => 1.0,
        };
        let weighted: Vec<(f64, &Adapter)> =
            updates.into_iter().map(|update| (weight(update), &*self.trained[&update.blob])).collect();
        let total: f64 = weighted.iter().map(|(weight, _)| weight).sum();
        let (_, first) = weighted.first().expect("a round needs at least one update");
        let modules = first.modules().keys().map(|name| {
            let side = |side: Side| {
                let like = first.modules()[name].side(side);
                let value = |index: usize| {
                    let part = |(weight, adapter): &(f64, &Adapter)| {
                        (weight / total) * f64::from(adapter.modules()[name].side(side).values()[index])
                    };
                    weighted.iter().map(part).fold(0.0, |sum, part| sum + part) as f32
                };
                Tensor::from_fn(like.shape(), value)
            };
            (name.clone(), LoraFactors { a: side(Side::A), b: side(Side::B) })
        });
        Adapter::new(Arc::clone(first.spec()), modules.collect(), BTreeMap::new()).expect("shapes as before")
    }
}

/// The global adapter, every value moved a little, differently for each client, round and attempt.
fn moved(global: &Adapter, client: ClientId, round: &CurrentRound, training: Training) -> Adapter {
    let mut rng = Seed(round.run.0 + (training.attempt << 8)).client(Purpose::Data, round.plan.round, client);
    let mut moved = |tensor: &Tensor| {
        let step = |value: &f32| value + (rng.random::<f32>() - 0.5) * REACH;
        Tensor::new(tensor.shape().to_vec(), tensor.values().iter().map(step).collect()).expect("the same shape")
    };
    let modules = global.modules().iter();
    let modules =
        modules.map(|(name, factors)| (name.clone(), LoraFactors { a: moved(&factors.a), b: moved(&factors.b) }));
    let modules = modules.collect();
    Adapter::new(Arc::clone(global.spec()), modules, BTreeMap::new()).expect("shapes as before")
}
