//! Training on a device: what adapters have become after some steps.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, ClientId, Digest, Directive, Factors, GradientClipping, HeadPolicy, KINDS,
    LocalHyperparameters, LocalWork, NoiseKind, NoiseLevel, Optimizer, PrivacyTerms, RoundId, RoundPlan, Schedule,
    Seed,
};
use fedlora_learner::{
    Dataset, Device, EvaluationPlan, Job, LocalTrainer, Pretraining, Randomness, Trainer, Vit, VitConfig,
};

use super::{Found, World, adapter, values};

/// Families that between them use every operation.
const TRAINED: [&str; 4] = ["tiny_bert", "tiny_vit", "tiny_mixer", "decoders/qwen3"];

/// Optimisers whose step follows from the gradient without a jump: an `epsilon` like `AdamW`'s usual one would make a full
/// step of rounding errors where a gradient is nearly zero.
const OPTIMIZERS: [Optimizer; 2] = [
    Optimizer::Sgd { momentum: 0.9, weight_decay: 0.01 },
    Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 0.1, weight_decay: 0.01 },
];

/// Two passes over a client's examples, two a step.
pub(crate) fn plan(start: &Adapter, optimizer: Optimizer, privacy: Option<PrivacyTerms>) -> RoundPlan {
    RoundPlan {
        run: "parity".to_owned(),
        round: RoundId(2),
        num_rounds: 3,
        directive: Directive {
            train: Factors::Both,
            upload: Factors::Both,
            download: Factors::Both,
            head: HeadPolicy::Shared,
        },
        spec: start.spec().digest(),
        base: Digest::of(b""),
        seed: 9,
        local: LocalHyperparameters {
            work: LocalWork::Epochs(2),
            batch_size: 2,
            learning_rate: 0.05,
            optimizer,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.1,
            max_grad_norm: if privacy.is_some() { 0.0 } else { 0.5 },
            lora_dropout: 0.2,
            proximal_mu: 0.1,
            loraplus_lr_ratio: 2.0,
            privacy,
        },
    }
}

/// What two clients' training changed, the losses on the way, and the evaluation of where they end.
fn train(
    family: &str,
    kind: AdapterKind,
    optimizer: Optimizer,
    privacy: Option<PrivacyTerms>,
    device: &Device,
) -> Found {
    let world = World::load(family, device);
    let start = adapter(&*world.model, kind, 0.0);
    let all: Vec<u32> = (0..world.dataset.len() as u32).collect();
    // One client has fewer examples, and so fewer steps, than the other.
    let shards = BTreeMap::from([(ClientId(1), all[..1].to_vec()), (ClientId(2), all.clone())]);
    let plan = Arc::new(plan(&start, optimizer, privacy));
    let job = |&client: &ClientId| Job { client, plan: Arc::clone(&plan), start: start.clone() };
    let jobs: Vec<Job> = shards.keys().map(job).collect();
    let trainer = LocalTrainer::new(Arc::clone(&world.model), Arc::clone(&world.dataset), Arc::new(shards)).unwrap();
    let mut trainer = trainer.with_cohort_size(2).with_randomness(Randomness::Seed);
    let mut found = Found::new();
    for outcome in trainer.train(&jobs) {
        let outcome = outcome.unwrap();
        let name = format!("{family}, {kind:?}, {optimizer:?}, {} steps", outcome.steps);
        let plan = EvaluationPlan::new(&world.dataset, &all).unwrap();
        let evaluation = plan.evaluate(&*world.model, &outcome.adapter).unwrap();
        let losses = vec![outcome.train_loss as f32, outcome.last_loss as f32, evaluation.loss as f32];
        found.push((format!("{name}: losses"), losses));
        found.push((format!("{name}: change"), change(&outcome.adapter, &start)));
    }
    found
}

/// All values less those of `start`.
pub(crate) fn change(adapter: &Adapter, start: &Adapter) -> Vec<f32> {
    let all = |adapter: &Adapter| {
        let factors = adapter.modules().values().flat_map(|factors| [factors.a.clone(), factors.b.clone()]);
        let tensors = factors.chain(adapter.head().values().cloned());
        tensors.flat_map(|tensor| tensor.values().to_vec()).collect::<Vec<f32>>()
    };
    all(adapter).into_iter().zip(all(start)).map(|(new, old)| new - old).collect()
}

/// Plain training: both optimisers, every kind of adapter in one family, dropout, clipping and a proximal term.
pub(crate) fn plain(device: &Device) -> Found {
    let mut found = Found::new();
    for family in TRAINED {
        for optimizer in OPTIMIZERS {
            found.extend(train(family, AdapterKind::Lora, optimizer, None, device));
        }
    }
    for row in KINDS.iter().filter(|row| row.kind != AdapterKind::Lora) {
        found.extend(train("tiny_bert", row.kind, OPTIMIZERS[0], None, device));
    }
    found
}

/// Private training with noise that is the same everywhere, under every way of clipping that has no threshold of its own to
/// cross.
pub(crate) fn private(device: &Device) -> Found {
    let terms = PrivacyTerms::new(NoiseLevel::Multiplier(0.5), 0.1, 1e-5).unwrap();
    let mut found = Found::new();
    for family in TRAINED {
        for clipping in [GradientClipping::Flat, GradientClipping::PerLayer] {
            let terms = terms.with(clipping, NoiseKind::Fast);
            found.extend(train(family, AdapterKind::Lora, OPTIMIZERS[0], Some(terms), device));
        }
    }
    for row in KINDS.iter().filter(|row| row.kind != AdapterKind::Lora) {
        found.extend(train("tiny_bert", row.kind, OPTIMIZERS[0], Some(terms), device));
    }
    found
}

/// Features of a tiny vision transformer of which all weights were trained for some steps.
pub(crate) fn pretrained(device: &Device) -> Found {
    let config = VitConfig {
        image_size: 8,
        num_channels: 1,
        patch_size: 4,
        hidden_size: 12,
        num_hidden_layers: 1,
        num_attention_heads: 3,
        intermediate_size: 20,
        layer_norm_eps: 1e-6,
        class_token: false,
    };
    let pixels = (0..6 * 64).map(|k| (0.7 * f64::from(k)).sin() as f32).collect();
    let names = vec!["even".to_owned(), "odd".to_owned()];
    let dataset = Dataset::images(pixels, 64, vec![0, 1, 0, 1, 0, 1], names).unwrap();
    let pretraining = Pretraining { epochs: 1, batch_size: 2, learning_rate: 1e-4, weight_decay: 0.01 };
    let mut losses = Vec::new();
    let watch = |progress: fedlora_learner::Progress| losses.push(progress.loss as f32);
    let model = Vit::pretrain(&config, &dataset, &pretraining, Seed(3), device, watch).unwrap();
    let features = fedlora_learner::Model::features(&model, &dataset.batch(&[0, 1, 2]), None, None);
    vec![("pretraining: losses".to_owned(), losses), ("pretraining: features".to_owned(), values(features))]
}
