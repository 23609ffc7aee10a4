//! Cost of one server step, each figure beside what the machine can do in the same run.
//!
//! `cargo bench -p fedlora-aggregation`: the mean of 100 adapters of 10 MiB against a loop that only reads them, from
//! memory and from files in the page cache; one `FedSVD` step, one LoRA-FAIR step and one step of each robust row on one core.

use std::{collections::BTreeMap, hint::black_box, path::Path, sync::Arc, time::Instant};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, AdapterUpdate, ClientId, Directive, LoraFactors, ModuleName, ModuleSpec,
    RoundId, Tensor, UpdateFile, UpdateSource, encode,
};
use fedlora_aggregation::{Method, Strategy, WeightedUpdate, aggregate};
use nalgebra::DMatrix;
use rayon::prelude::*;

const CLIENTS: u64 = 100;

fn main() {
    mean_of_many();
    one_core("fedsvd", 4096, 16, 10);
    one_core("lora-fair", 768, 16, 6);
    for method in ["coordinate-median", "trimmed-mean", "geometric-median", "krum", "multi-krum"] {
        one_core(method, 4096, 8, 20);
    }
}

/// Shortest of several runs of each work, in seconds: the ones that were disturbed least. They take turns, so that a
/// busy spell of the machine falls on all of them.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn best_of<const N: usize>(runs: usize, mut works: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..runs {
        for (best, work) in best.iter_mut().zip(&mut works) {
            let start = Instant::now();
            work();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best
}

fn spec(modules: usize, width: usize, rank: usize) -> Arc<AdapterSpec> {
    let module = ModuleSpec::new(width, width);
    Arc::new(AdapterSpec {
        kind: AdapterKind::Lora,
        rank,
        alpha: 16.0,
        use_rslora: false,
        projection_seed: 0,
        modules: (0..modules).map(|index| (ModuleName::new(format!("layer.{index}")), module)).collect(),
        head: BTreeMap::new(),
    })
}

/// Values in [-1, 1] that differ between clients, from a hash of the index.
fn adapter(spec: &Arc<AdapterSpec>, client: u64) -> Adapter {
    let value = |index: usize| {
        let mixed = (index as u64 ^ (client << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        mixed as f32 / (1 << 23) as f32 - 1.0
    };
    let factors = |module: &ModuleSpec| LoraFactors {
        a: Tensor::from_fn(&[spec.rank, module.d_in], value),
        b: Tensor::from_fn(&[module.d_out, spec.rank], value),
    };
    let modules = spec.modules.iter().map(|(name, module)| (name.clone(), factors(module))).collect();
    Adapter::new(Arc::clone(spec), modules, BTreeMap::new()).expect("finite by construction")
}

fn build(method: &str) -> Box<dyn Strategy> {
    Method::find(method).and_then(|method| method.build(&toml::Table::new())).expect("a row of the registry")
}

fn step(strategy: &dyn Strategy, previous: &Adapter, sources: &[&dyn UpdateSource]) {
    let updates: Vec<_> = (0..)
        .zip(sources)
        .map(|(client, update)| WeightedUpdate { client: ClientId(client), weight: 1.0, update: *update })
        .collect();
    black_box(aggregate(strategy, RoundId(1), previous, &updates).expect("valid updates"));
}

fn open(path: &Path, spec: &AdapterSpec, directive: Directive) -> UpdateFile {
    UpdateFile::open(path, spec, directive).and_then(UpdateFile::mapped).expect("valid")
}

fn mean_of_many() {
    // 40 modules of 4096 x 4096 at rank 8 are 40 * 2 * 8 * 4096 * 4 bytes = 10 MiB.
    let spec = spec(40, 4096, 8);
    let strategy = build("fedavg");
    let directive = strategy.directive(RoundId(1));
    let adapters: Vec<_> = (0..CLIENTS).map(|client| adapter(&spec, client)).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths: Vec<_> = (0..CLIENTS).map(|client| folder.path().join(format!("{client}.safetensors"))).collect();
    for (adapter, path) in adapters.iter().zip(&paths) {
        let update = AdapterUpdate::select(adapter, directive);
        let tensors = update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
        std::fs::write(path, encode(tensors).expect("encodable")).expect("room for 1 GiB");
    }
    let files: Vec<_> = paths.iter().map(|path| open(path, &spec, directive)).collect();
    let in_memory: Vec<_> = adapters.iter().map(|adapter| adapter as &dyn UpdateSource).collect();
    let in_files: Vec<_> = files.iter().map(|file| file as &dyn UpdateSource).collect();
    let [read_memory, mean_memory, read_files, mean_files] = best_of(
        15,
        [
            &mut || _ = black_box(sum_of_bits(&adapters)),
            &mut || step(&*strategy, &adapters[0], &in_memory),
            &mut || _ = black_box(sum_of_files(&paths)),
            &mut || {
                // Every time with the price of a file's first pages.
                files.iter().for_each(UpdateSource::release);
                step(&*strategy, &adapters[0], &in_files);
            },
        ],
    );
    let speed = |seconds: f64| CLIENTS as f64 * 10.0 / 1024.0 / seconds;
    println!(
        "reading {CLIENTS} x 10 MiB: memory {:.2} GiB/s, cached files {:.2} GiB/s",
        speed(read_memory),
        speed(read_files)
    );
    for (place, read, mean) in [("memory", read_memory, mean_memory), ("cached files", read_files, mean_files)] {
        println!(
            "weighted mean of them from {place}: {:.2} GiB/s, {:.2} of reading memory, {:.2} of reading {place}",
            speed(mean),
            read_memory / mean,
            read / mean
        );
    }
}

/// The cheapest use of every byte in memory: integer sums, tensors in parallel, and four of them at once on each
/// thread, because a single stream does not keep the memory busy.
fn sum_of_bits(adapters: &[Adapter]) -> u32 {
    let tensors: Vec<_> =
        adapters.iter().flat_map(|adapter| adapter.modules().values()).flat_map(|one| [&one.a, &one.b]).collect();
    let sum = |four: &[&Tensor]| {
        sum(four.try_into().map(|four: &[&Tensor; 4]| four.map(Tensor::values)).expect("80 tensors"))
    };
    tensors.par_chunks(4).map(sum).reduce(|| 0, u32::wrapping_add)
}

fn sum(streams: [&[f32]; 4]) -> u32 {
    let mut lanes = [0_u32; 32];
    let length = streams.map(<[f32]>::len).into_iter().min().unwrap_or(0);
    let streams = streams.map(|values| &values[..length]);
    for start in (0..length).step_by(32) {
        for values in streams {
            let chunk = &values[start..(start + 32).min(length)];
            lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane = lane.wrapping_add(value.to_bits()));
        }
    }
    lanes.into_iter().fold(0, u32::wrapping_add)
}

/// The cheapest use of every byte in a cached file: read into one small buffer, again and again.
fn sum_of_files(paths: &[std::path::PathBuf]) -> u64 {
    use std::io::Read;
    let read = |path: &std::path::PathBuf| {
        let mut file = std::fs::File::open(path).expect("written above");
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        loop {
            match file.read(&mut buffer).expect("readable") {
                0 => return total,
                length => total += length as u64,
            }
        }
    };
    paths.par_iter().map(read).sum()
}

/// One module on one core, beside the arithmetic of the step alone: its `d r²` products at the speed of one such product.
fn one_core(method: &str, width: usize, rank: usize, clients: u64) {
    let spec = spec(1, width, rank);
    let strategy = build(method);
    let adapters: Vec<_> = (0..clients).map(|client| adapter(&spec, client)).collect();
    let sources: Vec<_> = adapters.iter().map(|adapter| adapter as &dyn UpdateSource).collect();
    let tall = DMatrix::<f64>::from_fn(width, rank, |row, column| (row + column) as f64);
    let small = DMatrix::<f64>::identity(rank, rank);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let [seconds, product] = pool.install(|| {
        best_of(
            50,
            [&mut || step(&*strategy, &adapters[0], &sources), &mut || drop(black_box(black_box(&tall) * &small))],
        )
    });
    println!(
        "{method}, one module {width} x {width}, r = {rank}, K = {clients}, one core: {:.2} ms, {:.1} times one \
         ({width} x {rank}) ({rank} x {rank}) product",
        seconds * 1e3,
        seconds / product
    );
}
