//! Steps of several passes, and what becomes of training where memory is short.

use std::{collections::BTreeMap, sync::Arc};

use burn::tensor::Tensor;
use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, ClientId, Factors, LocalHyperparameters, LocalWork, NoiseLevel, Optimizer,
    PrivacyTerms, RoundPlan, Seed,
};

use super::{plan, random_adapter};
use crate::{
    Batch, Dataset, DeviceError, DropoutMasks, GroupedAdapter, Job, LearnerError, LocalOutcome, LocalTrainer, Model,
    Randomness, Trainer, Vit, VitConfig, device,
    model::{FrozenLayers, HeadForm},
    target_modules,
};

const LABELS: usize = 3;
const PIXELS: usize = 64;

/// A model on a device with memory for so many examples.
#[derive(Debug)]
struct Short {
    model: Arc<dyn Model>,
    examples: usize,
}

impl Model for Short {
    fn layers(&self) -> &FrozenLayers {
        self.model.layers()
    }

    fn feature_width(&self) -> usize {
        self.model.feature_width()
    }

    fn features(
        &self,
        batch: &Batch,
        adapters: Option<&GroupedAdapter>,
        dropout: Option<&mut DropoutMasks>,
    ) -> Tensor<2> {
        let examples = batch.targets.examples();
        assert!(examples <= self.examples, "can't allocate buffer of size: {examples}");
        self.model.features(batch, adapters, dropout)
    }

    fn head(&self) -> HeadForm {
        self.model.head()
    }
}

/// Clients 1 to 4 with 13, 4, 9 and 1 images.
struct World {
    model: Arc<dyn Model>,
    dataset: Arc<Dataset>,
    shards: Arc<BTreeMap<ClientId, Vec<u32>>>,
    start: Adapter,
}

impl World {
    /// With memory for so many examples.
    fn new(memory: usize) -> Self {
        let config = VitConfig {
            image_size: 8,
            num_channels: 1,
            patch_size: 4,
            hidden_size: 12,
            num_hidden_layers: 2,
            num_attention_heads: 3,
            intermediate_size: 20,
            layer_norm_eps: 1e-6,
            class_token: false,
        };
        let model = Arc::new(Vit::random(&config, Seed(7), &device("cpu").unwrap()).unwrap());
        let model: Arc<dyn Model> = Arc::new(Short { model, examples: memory });
        let labels: Vec<u32> = (0..27).map(|example| example % LABELS as u32).collect();
        let pixels = (0..27 * PIXELS).map(|index| (0.37 * index as f64).sin() as f32).collect();
        let names = (0..LABELS).map(|label| label.to_string()).collect();
        let mut rows = 0..27;
        let shards = [13, 4, 9, 1].iter().zip(1..).map(|(&n, id)| (ClientId(id), rows.by_ref().take(n).collect()));
        let spec = AdapterSpec {
            kind: AdapterKind::Lora,
            rank: 2,
            alpha: 4.0,
            use_rslora: false,
            projection_seed: 0,
            modules: target_modules(model.as_ref(), &["all-linear".to_owned()]).unwrap(),
            head: model.head_spec(LABELS),
        };
        Self {
            dataset: Arc::new(Dataset::images(pixels, PIXELS, labels, names).unwrap()),
            shards: Arc::new(shards.collect()),
            start: random_adapter(spec),
            model,
        }
    }

    fn plan(&self, privacy: Option<PrivacyTerms>) -> RoundPlan {
        let plan = plan(&self.start, 9, Factors::Both, 4, privacy);
        let local = LocalHyperparameters {
            work: LocalWork::Epochs(2),
            learning_rate: 0.1,
            // No jump in the step that could make a large difference of a small one, unlike AdamW's first.
            optimizer: Optimizer::Sgd { momentum: 0.9, weight_decay: 0.01 },
            lora_dropout: 0.25,
            proximal_mu: 0.1,
            ..plan.local
        };
        RoundPlan { local, ..plan }
    }

    /// All clients' training on one device.
    fn results(
        &self,
        plan: RoundPlan,
        micro_batch_size: usize,
        cohort_size: usize,
    ) -> Vec<Result<LocalOutcome, LearnerError>> {
        self.results_on(1, plan, micro_batch_size, cohort_size)
    }

    /// All clients' training on so many devices.
    fn results_on(
        &self,
        devices: usize,
        plan: RoundPlan,
        micro_batch_size: usize,
        cohort_size: usize,
    ) -> Vec<Result<LocalOutcome, LearnerError>> {
        let plan = Arc::new(plan);
        let job = |&client: &ClientId| Job { client, plan: Arc::clone(&plan), start: self.start.clone() };
        let jobs: Vec<Job> = self.shards.keys().map(job).collect();
        let (model, dataset) = (Arc::clone(&self.model), Arc::clone(&self.dataset));
        let trainer = LocalTrainer::new(model, dataset, Arc::clone(&self.shards)).unwrap();
        let trainer = trainer.with_cohort_size(cohort_size).with_micro_batch_size(micro_batch_size);
        let copies = (1..devices).map(|_| Arc::clone(&self.model));
        trainer.with_copies(copies).with_randomness(Randomness::Seed).train(&jobs)
    }

    fn train(&self, micro_batch_size: usize, cohort_size: usize) -> Vec<LocalOutcome> {
        let results = self.results(self.plan(None), micro_batch_size, cohort_size);
        results.into_iter().map(Result::unwrap).collect()
    }

    fn train_privately(&self, micro_batch_size: usize) -> Vec<LocalOutcome> {
        let terms = PrivacyTerms::new(NoiseLevel::Multiplier(0.5), 0.1, 1e-3).unwrap();
        let results = self.results(self.plan(Some(terms)), micro_batch_size, 2);
        results.into_iter().map(Result::unwrap).collect()
    }

    /// What training changed, one value after the other.
    fn change(&self, outcome: &LocalOutcome) -> Vec<f64> {
        let values = |adapter: &Adapter| {
            let factors = adapter.modules().values().flat_map(|factors| [factors.a.clone(), factors.b.clone()]);
            factors.flat_map(|tensor| tensor.values().to_vec()).map(f64::from).collect::<Vec<_>>()
        };
        values(&outcome.adapter).iter().zip(values(&self.start)).map(|(new, old)| new - old).collect()
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn a_step_of_several_passes_is_the_step_of_one() {
    let world = World::new(usize::MAX);
    let whole = world.train(0, 2);
    for micro_batch_size in [1, 3] {
        let parts = world.train(micro_batch_size, 2);
        assert_eq!(parts, world.train(micro_batch_size, 4), "passes follow from who trains together");
        for (found, expected) in parts.iter().zip(&whole) {
            let (change, wanted) = (world.change(found), world.change(expected));
            let gap: Vec<f64> = change.iter().zip(&wanted).map(|(found, expected)| found - expected).collect();
            // Sums of at most four gradients in another order, in eight steps: 8 · 4 · 2^-24 = 2e-6 of values up to 0.1,
            // against changes of about 1e-1 in all.
            assert!(norm(&gap) < 1e-5 * norm(&wanted), "{micro_batch_size}: {}", norm(&gap) / norm(&wanted));
            assert!((found.train_loss - expected.train_loss).abs() < 1e-5 * expected.train_loss);
            assert_eq!((found.steps, found.examples), (expected.steps, expected.examples));
        }
    }
    assert_eq!(world.train(100, 2), whole, "one pass is one pass");
}

#[test]
fn several_devices_train_what_one_trains() {
    let world = World::new(usize::MAX);
    let on = |devices, micro_batch_size, cohort_size| -> Vec<LocalOutcome> {
        let results = world.results_on(devices, world.plan(None), micro_batch_size, cohort_size);
        results.into_iter().map(Result::unwrap).collect()
    };
    for devices in [2, 3, 9] {
        for (micro_batch_size, cohort_size) in [(0, 1), (0, 2), (3, 0)] {
            assert_eq!(on(devices, micro_batch_size, cohort_size), on(1, micro_batch_size, cohort_size), "{devices}");
        }
    }
}

#[test]
fn private_steps_release_the_same_to_the_bit_for_passes_of_any_size() {
    let world = World::new(usize::MAX);
    let whole = world.train_privately(0);
    for micro_batch_size in [1, 3] {
        assert_eq!(world.train_privately(micro_batch_size), whole, "{micro_batch_size}");
    }
}

#[test]
fn where_memory_is_short_training_goes_on_in_smaller_passes() {
    let (large, small) = (World::new(usize::MAX), World::new(2));
    // Four examples of each of two clients are too many, two as well; one fits.
    assert_eq!(small.train(0, 2), large.train(1, 2));
    // Alone, a client has memory for two at a time.
    assert_eq!(small.train(0, 1), large.train(2, 1));
    // Samples and noise are not drawn again.
    assert_eq!(small.train_privately(0), large.train_privately(0));
}

#[test]
fn a_cohort_that_memory_is_too_short_for_trains_one_client_at_a_time() {
    let (large, small) = (World::new(usize::MAX), World::new(1));
    assert_eq!(small.train(0, 4), large.train(1, 1));
}

#[test]
fn without_memory_for_one_example_training_fails_and_says_so() {
    for result in World::new(0).results(World::new(0).plan(None), 0, 2) {
        let error = result.unwrap_err();
        assert!(matches!(error, LearnerError::Device(DeviceError::OutOfMemory(_))), "{error}");
        assert!(error.to_string().contains("one example at a time"), "{error}");
    }
}
