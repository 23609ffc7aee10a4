//! What a simulated client costs when it does nothing: CPU time per client and round, beside the bytes it moves.
//!
//! ```text
//! cargo bench -p fedlora-simulations --bench overhead
//! ```
//! Clients return the 64 KiB adapter that they received. All of them take part in every round; the coordinator's rounds,
//! the clients' sessions and the weighted mean are those of every run. Linux only: CPU time is read from `/proc`.
//!
//! The last line is the time from `main`'s first line to the first jobs in the trainer's hands, for 100 such clients. What
//! the system needs to load the program before `main` is not in it, and neither are a model and its data, which these
//! clients do without.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::{Duration, Instant},
};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, ClientId, HeadSpec, LocalHyperparameters, LocalWork, ModuleName, ModuleSpec,
    Optimizer, RoundId, Schedule, Seed,
};
use fedlora_aggregation::{Method, Weighting};
use fedlora_client::Session;
use fedlora_coordinator::{Participation, Run, RunSettings};
use fedlora_learner::{Job, LocalOutcome, ToyTrainer, Trainer};
use fedlora_simulations::{
    faults::Faults,
    observer::Unwatched,
    server::{Server, ServerParts},
    states::States,
    world::{World, WorldSettings},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Kernel ticks in a second; fixed for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// An idle trainer that notes when it first had something to do.
struct FirstTask {
    trainer: ToyTrainer,
    start: Instant,
    after: Arc<OnceLock<Duration>>,
}

impl Trainer for FirstTask {
    type Error = <ToyTrainer as Trainer>::Error;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, Self::Error>> {
        self.after.get_or_init(|| self.start.elapsed());
        self.trainer.train(jobs)
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn main() {
    let start = Instant::now();
    let after = Arc::new(OnceLock::new());
    play(100, 1, FirstTask { trainer: ToyTrainer::idle(), start, after: Arc::clone(&after) });
    println!("{:>8} {:>8} {:>22} {:>14}", "clients", "rounds", "CPU us/client-round", "memory copies");
    for (clients, rounds) in [(100, 400), (1_000, 40), (10_000, 4)] {
        play(clients, 1, ToyTrainer::idle());
        let before = cpu_seconds();
        play(clients, rounds, ToyTrainer::idle());
        let each = (cpu_seconds() - before) / (clients * rounds) as f64 * 1e6;
        println!("{clients:>8} {rounds:>8} {each:>22.1} {:>14.1}", each / copy_us());
    }
    let first = after.get().expect("the first run had a round");
    println!("start to first round, 100 clients: {:.4} s (limit 0.3 s)", first.as_secs_f64());
}

/// CPU time of one copy of the adapter's bytes, in microseconds: the unit of what a client could cost at least.
fn copy_us() -> f64 {
    let source = vec![1_u8; 64 * 1024];
    let copies = 200_000;
    let before = cpu_seconds();
    for _ in 0..copies {
        std::hint::black_box(std::hint::black_box(&source).clone());
    }
    (cpu_seconds() - before) / f64::from(copies) * 1e6
}

fn play(clients: u64, rounds: u64, trainer: impl Trainer) {
    let global = Adapter::zeros(Arc::new(spec())).expect("a valid specification");
    let settings = RunSettings {
        num_rounds: rounds,
        seed: 1,
        clients_per_round: clients as usize,
        sample_rate: None,
        min_available_clients: clients as usize,
        participation: Participation {
            min_results: 1,
            target_results: clients as usize,
            grace_ms: 0,
            deadline_ms: u64::MAX,
        },
    };
    let run = Run::new(settings, RoundId(0)).expect("settings under which rounds succeed");
    let states = States::new(Arc::clone(global.spec()), None, false);
    let server = Server::new(ServerParts {
        strategy: Method::find("fedavg").and_then(|method| method.build(&toml::Table::new())).expect("FedAvg"),
        weighting: Weighting::Examples,
        global,
        run: "overhead".to_owned(),
        seed: 1,
        num_rounds: rounds,
        local: local(),
        central: None,
        people_overlap: false,
        evaluate_every: 1,
        evaluator: None,
        states: states.clone(),
        recorder: None,
        observer: Box::new(Unwatched),
        rounds: Vec::new(),
    });
    let all = (0..clients).map(ClientId).collect();
    let settings = WorldSettings { seed: Seed(1), faults: Faults::default(), clients: all, needed: clients as usize };
    let world = World::start(run, server, settings, Arc::new(AtomicBool::new(false))).expect("a world");
    Session::new(world, trainer, states).run().expect("rounds");
}

/// 64 KiB: eight modules of rank 8 and width 128.
fn spec() -> AdapterSpec {
    let module = |index| (ModuleName::new(format!("layer.{index}")), ModuleSpec::new(128, 128));
    AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        projection_seed: 0,
        modules: (0..8).map(module).collect::<BTreeMap<_, _>>(),
        head: HeadSpec::new(),
    }
}

fn local() -> LocalHyperparameters {
    LocalHyperparameters {
        work: LocalWork::Steps(1),
        batch_size: 1,
        learning_rate: 1.0,
        optimizer: Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 },
        schedule: Schedule::Constant,
        warmup_ratio: 0.0,
        max_grad_norm: 0.0,
        lora_dropout: 0.0,
        proximal_mu: 0.0,
        loraplus_lr_ratio: 1.0,
        privacy: None,
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // The second field is the command in brackets and may hold spaces; times are the 12th and 13th behind it.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number of ticks");
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}
