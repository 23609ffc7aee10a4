//! A model of one layer, and data that make the most of it for an attacker.
//!
//! The logits of an image `x` are `B·A·x`: the base weight is zero, and there is a label for each canary. All values of A
//! but its first column `a`, of length 1, are zero at the start, and B is.
//!
//! *Canary* `i` lights the first pixel and has label `i`. Its gradient is `(p - e_i)·(A·x)ᵀ` in B, in all of B's rows a
//! thousandth but in row `i`, and next to none in A while B is small. Gradients of two canaries are orthogonal but for a
//! thousandth. It is eight times as long as the bound. Where a canary is out, a blank image is in its place: its gradient
//! is zero to the bit, as that of the blank places of `privacy/README.md`, section 1.
//!
//! *Amplifiers* of canary `i` light a pixel of their own and have label `i` too. Their gradient in A is
//! `(Bᵀ·(p - e_i))·xᵀ`: it shows in the pixel's column where row `i` of B points, and how far does not matter, since it is
//! long enough to be clipped. While B is zero they have no gradient.

use std::{collections::BTreeMap, sync::Arc};

use burn::tensor::{Tensor, TensorData};
use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, ClientId, Factors, ModuleName, PrivacyTerms, Purpose, RoundId, RoundPlan, Seed,
    Side,
};
use rand::RngExt;

use crate::{
    Batch, Dataset, DropoutMasks, FrozenLayers, GroupedAdapter, Inputs, Job, LocalTrainer, Model, Randomness, Trainer,
    device,
    ops::{self, FrozenWeight},
};

pub(super) const CANARIES: usize = 1000;
const RANK: usize = 4;
const LAYER: &str = "layer";
/// A canary's first pixel: with the first column of A of length 1, the length of its gradient.
const LOUD: f32 = 8.0;
/// An amplifier's pixel: with rows of B of 0.004 and more, gradients eighty times as long as the bound.
const LOUDEST: f32 = 2e4;

/// The data of one run, and the client that trains on them.
pub(super) struct World {
    model: Arc<dyn Model>,
    dataset: Arc<Dataset>,
    coins: Vec<bool>,
    seed: u64,
}

impl World {
    /// Canaries by the coins of a seed, with so many amplifiers each.
    pub(super) fn new(seed: u64, amplifiers: usize) -> Self {
        let mut rng = Seed(seed).run(Purpose::Data);
        let coins: Vec<bool> = (0..CANARIES).map(|_| rng.random()).collect();
        let width = if amplifiers == 0 { 1 } else { 1 + CANARIES };
        let mut pixels = vec![0.0; CANARIES * (1 + amplifiers) * width];
        for (row, image) in pixels.chunks_mut(width).enumerate() {
            if row >= CANARIES {
                image[1 + row % CANARIES] = LOUDEST;
            } else if coins[row] {
                image[0] = LOUD;
            }
        }
        let labels = (0..CANARIES * (1 + amplifiers)).map(|row| (row % CANARIES) as u32).collect();
        let names = (0..CANARIES).map(|label| label.to_string()).collect();
        let dataset = Arc::new(Dataset::images(pixels, width, labels, names).unwrap());
        Self { model: Arc::new(OneLayer::new(width)), dataset, coins, seed }
    }

    /// Whether a canary is in the data.
    pub(super) fn is_in(&self, canary: usize) -> bool {
        self.coins[canary]
    }

    /// Examples, blank ones included.
    pub(super) fn rows(&self) -> usize {
        self.dataset.len()
    }

    /// What training starts from.
    pub(super) fn start(&self) -> Adapter {
        let spec = AdapterSpec {
            kind: AdapterKind::Lora,
            rank: RANK,
            alpha: RANK as f64,
            use_rslora: false,
            projection_seed: 0,
            modules: self.model.adaptable().clone(),
            head: BTreeMap::new(),
        };
        let (spec, mut modules, head) = Adapter::zeros(Arc::new(spec)).unwrap().into_parts();
        for factors in modules.values_mut() {
            let width = factors.a.shape()[1];
            factors.a.values_mut().iter_mut().step_by(width).for_each(|value| *value = 0.5);
        }
        Adapter::new(spec, modules, head).unwrap()
    }

    pub(super) fn plan(
        &self,
        start: &Adapter,
        round: u64,
        train: Factors,
        batch_size: usize,
        terms: Option<PrivacyTerms>,
    ) -> RoundPlan {
        RoundPlan { round: RoundId(round), ..super::super::plan(start, self.seed, train, batch_size, terms) }
    }

    /// The client's adapter after a round.
    pub(super) fn train(&self, start: &Adapter, plan: RoundPlan) -> Adapter {
        let shards = Arc::new(BTreeMap::from([(ClientId(0), (0..self.rows() as u32).collect())]));
        let mut trainer = LocalTrainer::new(Arc::clone(&self.model), Arc::clone(&self.dataset), shards)
            .unwrap()
            .with_randomness(Randomness::Seed);
        let job = Job { client: ClientId(0), plan: Arc::new(plan), start: start.clone() };
        trainer.train(&[job]).remove(0).unwrap().adapter
    }
}

/// Adds what a round moved each canary's row of B along `a`. The share of all rows in a canary's direction is left out,
/// since it is the same for every canary and moves no rank.
pub(super) fn add_rows_of_b(scores: &mut [f64], before: &Adapter, after: &Adapter) {
    let moved = moved(before, after, Side::B);
    for (score, row) in scores.iter_mut().zip(moved.chunks(RANK)) {
        *score += row.iter().sum::<f64>();
    }
}

/// Adds what a round moved the column of A that belongs to each canary's amplifiers, along `a`: a row of B that points
/// along `a` pulls the column after it.
pub(super) fn add_columns_of_a(scores: &mut [f64], before: &Adapter, after: &Adapter) {
    let moved = moved(before, after, Side::A);
    for row in moved.chunks(moved.len() / RANK) {
        scores.iter_mut().zip(&row[1..]).for_each(|(score, value)| *score += value);
    }
}

fn moved(before: &Adapter, after: &Adapter, side: Side) -> Vec<f64> {
    let module = ModuleName::new(LAYER);
    let values = |adapter: &Adapter| adapter.modules()[&module].side(side).values().to_vec();
    let pairs = values(after).into_iter().zip(values(before));
    pairs.map(|(after, before)| f64::from(after) - f64::from(before)).collect()
}

/// One linear layer from pixels to logits, through the operation that all models use.
#[derive(Debug)]
struct OneLayer {
    frozen: FrozenLayers,
    /// `[CANARIES, pixels]`, zero.
    weight: FrozenWeight,
}

impl OneLayer {
    fn new(pixels: usize) -> Self {
        let device = device("cpu").unwrap();
        let weight = Tensor::<2>::zeros([CANARIES, pixels], &device);
        let frozen = FrozenLayers::new([(ModuleName::new(LAYER), weight.clone())], &device);
        Self { frozen, weight: weight.into() }
    }
}

impl Model for OneLayer {
    fn layers(&self) -> &FrozenLayers {
        &self.frozen
    }

    fn feature_width(&self) -> usize {
        CANARIES
    }

    fn features(&self, batch: &Batch, adapters: Option<&GroupedAdapter>, _: Option<&mut DropoutMasks>) -> Tensor<2> {
        let Inputs::Images { pixels, count } = &batch.inputs else { panic!("the layer reads images") };
        let x = TensorData::new(pixels.clone(), [*count, pixels.len() / count]);
        let x = Tensor::from_data(x, &self.device());
        let lora = adapters.and_then(|adapters| adapters.lora(&ModuleName::new(LAYER), adapters.examples(), None));
        ops::linear_lora(x, self.weight.clone(), None, lora.expect("the layer is looked at with its adapter only"))
    }

    /// The features are the logits: there is no head.
    fn forward(&self, batch: &Batch, adapters: &GroupedAdapter, dropout: Option<&mut DropoutMasks>) -> Tensor<2> {
        self.features(batch, Some(adapters), dropout)
    }
}
