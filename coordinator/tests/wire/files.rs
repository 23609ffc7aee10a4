//! Adapters and update files to test with.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, AdapterUpdate, Digest, Directive, Factors, HeadPolicy, LocalHyperparameters,
    LocalWork, LoraFactors, ModuleName, ModuleSpec, Optimizer, PeftOptions, RoundId, RoundPlan, Schedule, Side, Tensor,
    encode,
};
use fedlora_coordinator::{CurrentRound, CurrentRun, RunId, Timestamp};

pub(crate) const DIRECTIVE: Directive =
    Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Shared };
/// The open round of every test.
pub(crate) const ROUND: u64 = 3;
/// Steps that the plan allows and updates claim.
pub(crate) const STEPS: u32 = 5;
/// The learning rate of the plan.
pub(crate) const RATE: f64 = 0.01;

/// One module and a head; `width` decides the size.
pub(crate) fn spec(width: usize) -> Arc<AdapterSpec> {
    Arc::new(AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 2,
        alpha: 4.0,
        use_rslora: false,
        projection_seed: 0,
        modules: BTreeMap::from([(ModuleName::new("query"), ModuleSpec::new(width, 3))]),
        head: BTreeMap::from([("head".to_owned(), vec![2])]),
    })
}

/// Small values, different everywhere.
pub(crate) fn global(width: usize) -> Adapter {
    let spec = spec(width);
    let value = |index: usize| ((index * 37 % 101) as f32 - 50.0) * 1e-3;
    let tensor = |shape: &[usize]| Tensor::from_fn(shape, value);
    let factors =
        |module| LoraFactors { a: tensor(&spec.shape(module, Side::A)), b: tensor(&spec.shape(module, Side::B)) };
    let modules = spec.modules.iter().map(|(name, module)| (name.clone(), factors(module))).collect();
    let head = spec.head.iter().map(|(name, shape)| (name.clone(), tensor(shape))).collect();
    Adapter::new(spec, modules, head).expect("made to match")
}

/// An adapter with every value changed.
pub(crate) fn changed(adapter: &Adapter, change: impl Fn(usize, f32) -> f32) -> Adapter {
    let (spec, mut modules, mut head) = adapter.clone().into_parts();
    let apply = |tensor: &mut Tensor| {
        for (index, value) in tensor.values_mut().iter_mut().enumerate() {
            *value = change(index, *value);
        }
    };
    for factors in modules.values_mut() {
        apply(&mut factors.a);
        apply(&mut factors.b);
    }
    for tensor in head.values_mut() {
        apply(tensor);
    }
    Adapter::new(spec, modules, head).expect("finite")
}

/// What an honest client with this number sends.
pub(crate) fn honest(width: usize, client: u64) -> Vec<u8> {
    // Each value moves by at most two learning rates in five steps.
    bytes(&changed(&global(width), |index, value| value + (RATE as f32) * ((index as u64 + client) % 5) as f32 * 0.5))
}

/// The update file of an adapter.
pub(crate) fn bytes(adapter: &Adapter) -> Vec<u8> {
    let update = AdapterUpdate::select(adapter, DIRECTIVE);
    encode(update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()))).expect("small")
}

pub(crate) fn base_model() -> Digest {
    Digest::of(b"base model")
}

pub(crate) fn run(width: usize) -> CurrentRun {
    CurrentRun {
        id: RunId(7),
        name: "trial".to_owned(),
        spec: spec(width),
        base_model: base_model(),
        labels: vec!["no".to_owned(), "yes".to_owned()],
        peft: PeftOptions::default(),
    }
}

pub(crate) fn plan(width: usize) -> RoundPlan {
    let optimizer = Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    let local = LocalHyperparameters {
        work: LocalWork::Steps(STEPS),
        batch_size: 4,
        learning_rate: RATE,
        optimizer,
        schedule: Schedule::Constant,
        warmup_ratio: 0.0,
        max_grad_norm: 0.0,
        lora_dropout: 0.0,
        proximal_mu: 0.0,
        loraplus_lr_ratio: 1.0,
        privacy: None,
    };
    RoundPlan {
        run: "trial".to_owned(),
        round: RoundId(ROUND),
        num_rounds: 5,
        directive: DIRECTIVE,
        spec: spec(width).digest(),
        base: global(width).digest(),
        seed: 1,
        local,
    }
}

pub(crate) fn round(width: usize, blob: &[u8]) -> CurrentRound {
    CurrentRound {
        run: RunId(7),
        plan: Arc::new(plan(width)),
        blob: Digest::of(blob),
        blob_bytes: blob.len() as u64,
        deadline: Some(Timestamp(1234)),
    }
}
