//! The bound holds for every honest optimiser, and names what passes it.

use std::{collections::BTreeMap, fs, sync::Arc};

use fedlora_adapter::{
    AdapterKind, AdapterSpec, AdapterUpdate, ClientId, Digest, Directive, Factors, HeadPolicy, LocalHyperparameters,
    LocalWork, LoraFactors, ModuleName, ModuleSpec, Optimizer, RoundId, Schedule, Side, Tensor, encode,
};

use super::*;
use crate::RunId;

const ADAMW: Optimizer = Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
const STEPS: u64 = 10;
const RATE: f64 = 0.01;

fn plan(optimizer: Optimizer, download: Factors) -> RoundPlan {
    let directive = Directive { train: Factors::Both, upload: Factors::Both, download, head: HeadPolicy::Shared };
    let local = LocalHyperparameters {
        work: LocalWork::Steps(10),
        batch_size: 1,
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
    let (spec, base) = (Digest::of(b"spec"), Digest::of(b"base"));
    RoundPlan { run: "r".to_owned(), round: RoundId(3), num_rounds: 4, directive, spec, base, seed: 0, local }
}

/// An adapter of two blocks and a bit per factor, all values 0 but for those given.
fn adapter(a: f32, b: f32, head: f32) -> Adapter {
    let name = ModuleName::new("query");
    let spec = Arc::new(AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 1,
        alpha: 1.0,
        use_rslora: false,
        projection_seed: 0,
        modules: BTreeMap::from([(name.clone(), ModuleSpec::new(40_000, 2))]),
        head: BTreeMap::from([("head".to_owned(), vec![3])]),
    });
    let module = &spec.modules[&name];
    let last = |shape: &[usize], value: f32| {
        let length: usize = shape.iter().product();
        Tensor::from_fn(shape, |index| if index + 1 == length { value } else { 0.0 })
    };
    let factors = LoraFactors { a: last(&spec.shape(module, Side::A), a), b: last(&spec.shape(module, Side::B), b) };
    let heads = BTreeMap::from([("head".to_owned(), last(&[3], head))]);
    Adapter::new(Arc::clone(&spec), BTreeMap::from([(name, factors)]), heads).expect("made to match")
}

fn checked(plan: &RoundPlan, global: &Adapter, sent: &Adapter) -> Result<(), CheckError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("update");
    let update = AdapterUpdate::select(sent, plan.directive);
    let bytes = encode(update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref())));
    fs::write(&path, bytes.expect("small")).expect("writable");
    let digest = Digest::of(b"");
    let meta = UpdateMeta {
        client: ClientId(1),
        run: RunId(1),
        round: plan.round,
        spec: digest,
        base: digest,
        blob: digest,
        size_bytes: 0,
        examples: 1,
        steps: STEPS,
        train_loss: Some(0.0),
    };
    check_update(&path, plan, global, &meta, DEFAULT_MAX_FACTOR_DISTANCE)
}

fn detail(result: Result<(), CheckError>) -> String {
    match result.expect_err("too far") {
        CheckError::Rejected(Rejection { code: ReasonCode::TooFar, detail }) => detail,
        error => panic!("{error}"),
    }
}

#[test]
fn adam_never_passes_the_default_bound_whatever_the_gradients() {
    let (b1, b2) = (0.9_f64, 0.999_f64);
    // Gradients that grow by b2/b1 a step are those for which Cauchy-Schwarz is an equality: the worst there are.
    let worst = |step: i32| (b2 / b1).powi(step);
    let late = |step: i32| if step == 60 { 1.0 } else { 0.0 };
    let growing = |step: i32| f64::from(step);
    let constant = |_: i32| 1.0;
    let gradients: [&dyn Fn(i32) -> f64; 4] = [&worst, &late, &growing, &constant];
    let mut largest_step = 0.0_f64;
    for gradient in gradients {
        let (mut m, mut v, mut value) = (0.0, 0.0, 0.0_f64);
        for step in 1..=200 {
            m = b1 * m + (1.0 - b1) * gradient(step);
            v = b2 * v + (1.0 - b2) * gradient(step).powi(2);
            let (first, second) = (m / (1.0 - b1.powi(step)), v / (1.0 - b2.powi(step)));
            let change = RATE * first / (second.sqrt() + 1e-12);
            largest_step = largest_step.max(change.abs() / RATE);
            value -= change;
            assert!(value.abs() <= DEFAULT_MAX_FACTOR_DISTANCE * RATE * f64::from(step));
        }
    }
    // The proof's constant; the bias corrections at step 200 lower it by sqrt(1 - b2^200) = 0.43.
    assert!(largest_step <= 7.27 && largest_step > 2.0, "{largest_step}");
}

#[test]
fn each_tensor_is_bounded_by_itself_and_named() {
    let (plan, global) = (plan(ADAMW, Factors::Both), adapter(0.5, 0.0, -0.25));
    let bound = (DEFAULT_MAX_FACTOR_DISTANCE * RATE * STEPS as f64) as f32;
    let (near, far) = (bound * 0.999, bound * 1.001);
    checked(&plan, &global, &adapter(0.5 + near, -near, -0.25 - near)).expect("within");
    let words = detail(checked(&plan, &global, &adapter(0.5 + far, 0.0, -0.25)));
    assert!(words.starts_with("module query: factor A: value 39999 is "), "{words}");
    let words = detail(checked(&plan, &global, &adapter(0.5, -far, -0.25)));
    assert!(words.starts_with("module query: factor B: value 1 is "), "{words}");
    let words = detail(checked(&plan, &global, &adapter(0.5, 0.0, f32::MAX)));
    assert!(words.starts_with("tensor head: value 2 is "), "{words}");
}

#[test]
fn a_factor_that_clients_keep_may_be_as_far_as_all_rounds_went() {
    let bound = (DEFAULT_MAX_FACTOR_DISTANCE * RATE * STEPS as f64) as f32;
    let (kept, global) = (plan(ADAMW, Factors::A), adapter(0.0, 0.0, 0.0));
    checked(&kept, &global, &adapter(0.0, 2.9 * bound, 0.0)).expect("the third round");
    detail(checked(&kept, &global, &adapter(0.0, 3.1 * bound, 0.0)));
    detail(checked(&kept, &global, &adapter(1.1 * bound, 0.0, 0.0)));
}

#[test]
fn the_bound_follows_the_optimiser() {
    let global = adapter(10.0, 0.0, 0.0);
    let unit = (DEFAULT_MAX_FACTOR_DISTANCE * RATE * STEPS as f64) as f32;
    let accepts = |plan: &RoundPlan, a: f32| checked(plan, &global, &adapter(10.0 + a, 0.0, 0.0)).is_ok();
    let sgd = |momentum, weight_decay| plan(Optimizer::Sgd { momentum, weight_decay }, Factors::Both);
    // Momentum 0.75: the velocity is at most four gradients.
    assert!(accepts(&sgd(0.75, 0.0), 3.9 * unit) && !accepts(&sgd(0.75, 0.0), 4.1 * unit));
    let mut clipped = sgd(0.0, 0.0);
    clipped.local.max_grad_norm = 0.5;
    assert!(accepts(&clipped, 0.49 * unit) && !accepts(&clipped, 0.51 * unit));
    // Decay of 0.1 on a value of 10 is as strong as a gradient of 1.
    assert!(accepts(&sgd(0.0, 0.1), 1.9 * unit) && !accepts(&sgd(0.0, 0.1), 2.1 * unit));
}

#[test]
fn a_file_that_cannot_be_read_is_no_fault_of_the_update() {
    let plan = plan(ADAMW, Factors::Both);
    let error = UpdateFile::open(Path::new("/nowhere"), adapter(0.0, 0.0, 0.0).spec(), plan.directive).map_err(sort);
    assert!(matches!(error, Err(CheckError::Io(_))));
}
