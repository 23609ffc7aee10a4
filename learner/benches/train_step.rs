//! One LoRA training step and one local epoch of an encoder of texts or images, to be set beside PyTorch and PEFT
//! (`tests/peers/`).
//!
//! ```text
//! cargo bench -p fedlora-learner --bench train_step -- [MODEL_DIR [DATA]] [--threads N] [--batch N] [--tokens N] [--checkpointing]
//! ```
//! `MODEL_DIR` is a Hugging Face directory (`tests/peers/make_models.py` makes some of usual sizes); `DATA` labelled texts of
//! which one client trains on 400 rows. A step has 32 texts of 64 tokens, or 32 images, unless something else is said. Every
//! line is the median and the best of some runs, in milliseconds.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, ClientId, Digest, Directive, Factors, HeadPolicy, LocalHyperparameters,
    LocalWork, ModuleName, NoiseLevel, Optimizer, PrivacyTerms, Purpose, RoundId, RoundPlan, Schedule, Seed, Tensor,
};
use fedlora_learner::{
    DataConfig, Dataset, Image, ImageProcessor, Job, LoadedText, LocalTrainer, Model, Preprocessor, Tokens, Trainer,
    device, load_pretrained, target_modules,
};
use rand::RngExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 7;
const STEPS: u32 = 4;

struct Arguments {
    model: PathBuf,
    data: Option<PathBuf>,
    threads: usize,
    batch: usize,
    tokens: usize,
    checkpointing: bool,
}

fn arguments() -> Option<Arguments> {
    // Cargo adds flags of its own.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let (mut paths, [mut threads, mut batch, mut tokens], mut checkpointing) = (Vec::new(), [2, 32, 64], false);
    while let Some(word) = words.next() {
        let number = match word.as_str() {
            "--threads" => &mut threads,
            "--batch" => &mut batch,
            "--tokens" => &mut tokens,
            "--checkpointing" => {
                checkpointing = true;
                continue;
            }
            _ => {
                paths.push(PathBuf::from(word));
                continue;
            }
        };
        *number = words.next()?.parse().ok()?;
    }
    let mut paths = paths.into_iter();
    Some(Arguments { model: paths.next()?, data: paths.next(), threads, batch, tokens, checkpointing })
}

fn main() {
    let Some(arguments) = arguments() else {
        println!("nothing measured: name a model directory behind `--`");
        return;
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build().expect("a thread pool");
    pool.install(|| measure(&arguments));
}

fn measure(arguments: &Arguments) {
    let device = device("cpu").expect("the CPU");
    let (model, preprocessor) = load_pretrained(&arguments.model, None, &device).expect("a model directory");
    let &Arguments { batch, tokens, checkpointing, .. } = arguments;
    let (step, shape) = match &preprocessor {
        Preprocessor::Text(_) => (uniform(batch, tokens), format!("{batch} x {tokens}")),
        Preprocessor::Images(processor) => (pictures(batch, processor), format!("{batch} images")),
        Preprocessor::Passages { .. } => panic!("the bench decoder_step is for language models"),
    };
    let names = targets(&*model);
    let (factors, head) = (Factors::Both, HeadPolicy::Shared);
    let all = Training { targets: names, factors, head, privacy: None, batch, checkpointing };
    let steps = LocalWork::Steps(STEPS);
    report(&format!("step {shape}"), STEPS.into(), || train(&model, &step, &all, steps));
    say_peak_memory();
    // No layer below the last has anything to train: its backward pass is not computed at all.
    let last = last_layer(&*model, names);
    let last: Vec<&str> = last.iter().map(String::as_str).collect();
    let last = Training { targets: &last, ..all };
    report(&format!("step {shape}, last layer only"), STEPS.into(), || train(&model, &step, &last, steps));
    // All examples are in every batch, so that private and plain steps do the same amount of work.
    let terms = PrivacyTerms::new(NoiseLevel::Multiplier(1.0), 1.0, 1e-5).expect("valid terms");
    let b_only = Training { factors: Factors::B, head: HeadPolicy::Frozen, ..all };
    for (what, plain) in [("", all), (", B only", b_only)] {
        let private = Training { privacy: Some(terms), ..plain };
        let [plain, private] = [plain, private].map(|training| {
            let (model, step) = (&model, &step);
            move || train(model, step, &training, steps)
        });
        report_both([&format!("step {shape}{what}"), &format!("private step {shape}{what}")], plain, private);
    }
    if let Some(data) = &arguments.data {
        let config = DataConfig { test_fraction: Some(0.1), max_rows: Some(400), ..DataConfig::new(data) };
        let text = LoadedText::load(&config, Seed(1)).expect("labelled texts");
        let tokenizer = preprocessor.into_text().expect("a model of texts");
        let (rows, _) = text.tokenize(&tokenizer, 128).expect("tokens");
        let rows = Arc::new(rows);
        let tokens: usize = (0..rows.len() as u32).map(|row| rows.length(row)).sum();
        println!("epoch: {} rows, {tokens} tokens", rows.len());
        report("epoch", 1, || train(&model, &rows, &all, LocalWork::Epochs(1)));
    }
}

/// What is adapted by custom: queries and values, or all of a mixer.
fn targets(model: &dyn Model) -> &'static [&'static str] {
    const CUSTOMS: [&[&str]; 4] = [&["query", "value"], &["q_lin", "v_lin"], &["q_proj", "v_proj"], &["qkv"]];
    let has = |end: &str| model.adaptable().keys().any(|name| name.as_str().ends_with(&format!(".{end}")));
    CUSTOMS.into_iter().find(|ends| ends.iter().all(|end| has(end))).unwrap_or(&["fc1", "fc2"])
}

/// The modules of these names in the last layer, by their whole names.
fn last_layer(model: &dyn Model, ends: &[&str]) -> Vec<String> {
    let number = |name: &str| name.split('.').find_map(|part| part.parse::<usize>().ok());
    let names = || model.adaptable().keys().map(ModuleName::as_str);
    let last = names().filter_map(number).max();
    let is_meant = |name: &&str| number(name) == last && ends.iter().any(|end| name.ends_with(&format!(".{end}")));
    names().filter(is_meant).map(str::to_owned).collect()
}

/// Pictures of random values.
fn pictures(examples: usize, processor: &ImageProcessor) -> Arc<Dataset> {
    let picture = Image::new(1, 256, 256, vec![0; 256 * 256]).expect("a picture");
    let size = processor.pixels(&picture, Path::new("")).expect("the model's size").len();
    let mut rng = Seed(1).run(Purpose::Data);
    let pixels = (0..examples * size).map(|_| rng.random::<f32>() - 0.5).collect();
    let (labels, names) = labels(examples);
    Arc::new(Dataset::images(pixels, size, labels, names).expect("valid examples"))
}

/// Every second example has the other of two labels.
fn labels(examples: usize) -> (Vec<u32>, Vec<String>) {
    ((0..examples as u32).map(|example| example % 2).collect(), vec!["0".to_owned(), "1".to_owned()])
}

/// Sequences of one length with random tokens.
fn uniform(examples: usize, length: usize) -> Arc<Dataset> {
    let mut rng = Seed(1).run(Purpose::Data);
    let sequences: Vec<Tokens> = (0..examples)
        .map(|_| (0..length).map(|_| 1000 + rng.random::<u32>() % 20_000).collect::<Vec<_>>().into())
        .collect();
    let (labels, names) = labels(examples);
    Arc::new(Dataset::tokens(&sequences, labels, names).expect("valid examples"))
}

fn report(what: &str, per_run: u64, mut work: impl FnMut()) {
    work();
    say(what, (0..RUNS).map(|_| time(&mut work) / per_run as f64).collect());
}

/// Two kinds of steps in turn, so that a machine that gets slower or faster meanwhile does so for both, and how much longer
/// the second one takes.
fn report_both(whats: [&str; 2], mut one: impl FnMut(), mut other: impl FnMut()) {
    one();
    other();
    let times = (0..RUNS).map(|_| (time(&mut one) / f64::from(STEPS), time(&mut other) / f64::from(STEPS)));
    let (ones, others) = times.unzip();
    let [(median, best), (other_median, other_best)] = [say(whats[0], ones), say(whats[1], others)];
    println!("{} over {}: {:.3}, of the best {:.3}", whats[1], whats[0], other_median / median, other_best / best);
}

/// Says and returns the median and the best of some times, in milliseconds.
fn say(what: &str, mut times_ms: Vec<f64>) -> (f64, f64) {
    times_ms.sort_by(f64::total_cmp);
    let (median, best) = (times_ms[RUNS / 2], times_ms[0]);
    println!("{what}: median {median:.1} ms, best {best:.1} ms");
    (median, best)
}

/// In milliseconds.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn time(work: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// The most memory that the process has had so far, where the system tells it.
fn say_peak_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kib: Option<u64> =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    if let Some(peak_kib) = peak_kib {
        println!("peak memory: {} MiB", peak_kib / 1024);
    }
}

/// What is trained, and how.
#[derive(Clone, Copy)]
struct Training<'a> {
    targets: &'a [&'a str],
    factors: Factors,
    head: HeadPolicy,
    privacy: Option<PrivacyTerms>,
    batch: usize,
    checkpointing: bool,
}

fn train(model: &Arc<dyn Model>, dataset: &Arc<Dataset>, training: &Training<'_>, work: LocalWork) {
    let rows = (0..dataset.len() as u32).collect();
    let shards = Arc::new(BTreeMap::from([(ClientId(0), rows)]));
    let trainer = LocalTrainer::new(Arc::clone(model), Arc::clone(dataset), shards).expect("rows of the data");
    let mut trainer = trainer.with_gradient_checkpointing(training.checkpointing);
    let start = start(&**model, training.targets);
    let plan = Arc::new(plan(&start, training, work));
    let outcome = trainer.train(&[Job { client: ClientId(0), plan, start }]).remove(0).expect("a trained client");
    assert!(outcome.train_loss > 0.0);
}

fn start(model: &dyn Model, targets: &[&str]) -> Adapter {
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(model, &targets).expect("modules of the model"),
        head: model.head_spec(2),
    };
    let (spec, mut modules, head) = Adapter::zeros(Arc::new(spec)).expect("a valid specification").into_parts();
    for factors in modules.values_mut() {
        factors.a = Tensor::from_fn(factors.a.shape(), |k| 0.02 * (0.37 * k as f32).sin());
        factors.b = Tensor::from_fn(factors.b.shape(), |k| 0.02 * (0.21 * k as f32).sin());
    }
    Adapter::new(spec, modules, head).expect("factors of the specification")
}

fn plan(start: &Adapter, training: &Training<'_>, work: LocalWork) -> RoundPlan {
    let factors = training.factors;
    RoundPlan {
        run: "bench".to_owned(),
        round: RoundId(1),
        num_rounds: 1,
        directive: Directive { train: factors, upload: factors, download: factors, head: training.head },
        spec: start.spec().digest(),
        base: Digest::of(b""),
        seed: 1,
        local: LocalHyperparameters {
            work,
            batch_size: training.batch,
            learning_rate: 1e-3,
            optimizer: Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 },
            schedule: Schedule::Constant,
            warmup_ratio: 0.0,
            max_grad_norm: 0.0,
            lora_dropout: 0.0,
            proximal_mu: 0.0,
            loraplus_lr_ratio: 1.0,
            privacy: training.privacy,
        },
    }
}
