//! Forward and backward pass of a LoRA step on a language model, to be set beside PyTorch and PEFT
//! (`tests/peers/torch_decoder_step.py`), and its speed at writing text.
//!
//! ```text
//! cargo bench -p fedlora-learner --bench decoder_step -- MODEL_DIR [--threads N] [--checkpointing]
//! ```
//! `MODEL_DIR` is a Hugging Face directory of a Llama-type model. Every line is the median and the best of some runs, in
//! milliseconds.

use std::{hint::black_box, path::Path, sync::Arc, time::Instant};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors, Purpose, Seed, Tensor as HostTensor};
use fedlora_learner::{
    Batch, Generation, GroupedAdapter, Inputs, Model, NextTokens, Pooling, Targets, Tokens, device, generate,
    generate_all, load_pretrained, ops::cross_entropy, target_modules,
};
use rand::RngExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 15;
const EXAMPLES: usize = 16;
const LENGTH: usize = 128;
/// Texts that are written at a time.
const TEXTS: usize = 64;

fn main() {
    // Cargo adds flags of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [model, flags @ ..] = words.as_slice() else {
        println!("nothing measured: name a model directory behind `--`");
        return;
    };
    let after = |name| flags.iter().skip_while(move |flag| *flag != name);
    let threads = after("--threads").nth(1).map_or(2, |threads| threads.parse().expect("a number"));
    let checkpointing = after("--checkpointing").next().is_some();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    pool.install(|| measure(Path::new(model), checkpointing));
}

fn measure(directory: &Path, checkpointing: bool) {
    let (model, _) =
        load_pretrained(directory, Pooling::Mean, &device("cpu").expect("the CPU")).expect("a model directory");
    let batch = batch(&*model);
    for targets in ["q_proj v_proj", "all-linear"] {
        let adapter = adapter(&*model, targets);
        report(&format!("step {EXAMPLES} x {LENGTH}, {targets}"), || step(&*model, &adapter, &batch, checkpointing));
    }
    let generation = Generation { max_new_tokens: LENGTH, temperature: 1.0, ..Generation::default() };
    let mut tokens = 0;
    report(&format!("text of at most {LENGTH} tokens"), || {
        tokens = generate(&*model, None, &[1], &generation).expect("a text").len();
    });
    println!("{tokens} tokens each time");
    let prompts: Vec<[u32; 1]> = vec![[1]; TEXTS];
    let prompts: Vec<&[u32]> = prompts.iter().map(<[u32; 1]>::as_slice).collect();
    report(&format!("{TEXTS} texts of at most {LENGTH} tokens"), || {
        tokens = generate_all(&*model, None, &prompts, &generation).expect("texts").iter().map(Vec::len).sum();
    });
    println!("{tokens} tokens each time");
}

/// Random tokens, all of which but the first are to be predicted.
fn batch(model: &dyn Model) -> Batch {
    let vocabulary = model.decoder().expect("a language model").vocabulary() as u32;
    let mut rng = Seed(1).run(Purpose::Data);
    let ids: Vec<u32> = (0..EXAMPLES * LENGTH).map(|_| rng.random_range(0..vocabulary)).collect();
    let rows: Vec<u32> = (0..ids.len() as u32).filter(|row| !(row + 1).is_multiple_of(LENGTH as u32)).collect();
    let next = rows.iter().map(|&row| ids[row as usize + 1]).collect();
    let targets = NextTokens { rows, ids: next, counts: vec![LENGTH - 1; EXAMPLES] };
    let inputs = Inputs::Tokens { tokens: Tokens::from(ids), lengths: vec![LENGTH; EXAMPLES] };
    Batch { inputs, targets: Targets::Tokens(targets) }
}

fn adapter(model: &dyn Model, targets: &str) -> Adapter {
    let targets: Vec<String> = targets.split(' ').map(str::to_owned).collect();
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(model, &targets).expect("modules of a Llama-type model"),
        head: model.head_spec(0),
    };
    let (spec, mut modules, head) = Adapter::zeros(Arc::new(spec)).expect("a valid specification").into_parts();
    for factors in modules.values_mut() {
        factors.a = HostTensor::from_fn(factors.a.shape(), |k| 0.02 * (0.37 * k as f32).sin());
        factors.b = HostTensor::from_fn(factors.b.shape(), |k| 0.02 * (0.21 * k as f32).sin());
    }
    Adapter::new(spec, modules, head).expect("factors of the specification")
}

/// Loss and gradients of all factors.
fn step(model: &dyn Model, adapter: &Adapter, batch: &Batch, checkpointing: bool) {
    let adapters = GroupedAdapter::new(&[adapter], Factors::Both, false, &model.device()).expect("one adapter");
    let adapters = adapters.with_examples(vec![EXAMPLES]);
    let adapters = if checkpointing { adapters.with_gradient_checkpointing() } else { adapters };
    let logits = model.forward(batch, &adapters, None);
    black_box(adapters.gradients(&cross_entropy(logits, batch.targets.ids()).mean()));
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn report(what: &str, mut work: impl FnMut()) {
    work();
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{what}: median {:.1} ms, best {:.1} ms", times[RUNS / 2], times[0]);
}
