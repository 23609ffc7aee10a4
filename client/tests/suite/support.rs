//! Adapters, links and trainers for tests.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, Digest, Directive, Factors, HeadPolicy, LocalHyperparameters, LocalWork,
    ModuleName, ModuleSpec, Optimizer, Schedule, Seed,
};
use fedlora_client::{
    Backoff, Dialer, GrpcLink, Identity, KeptStore, LinkSettings, MemoryStore, Progress, Session, Shown, StateDir,
    Terms, grpc::Stop,
};
use fedlora_learner::{Job, LocalOutcome, ToyTrainer, Trainer, Watch};

use crate::coordinator::Coordinator;

/// What every client of these tests loaded.
pub(crate) fn base_model() -> Digest {
    Digest::of(b"base model")
}

/// Everything is trained and sent.
pub(crate) const ALL: Directive =
    Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Shared };

/// `B` and the head stay with the client, as in FedSA-LoRA.
pub(crate) const SHARE_A: Directive =
    Directive { train: Factors::Both, upload: Factors::A, download: Factors::A, head: HeadPolicy::Personal };

/// One module of this width.
pub(crate) fn spec(width: usize) -> Arc<AdapterSpec> {
    Arc::new(AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 2,
        alpha: 4.0,
        use_rslora: false,
        projection_seed: 0,
        modules: [(ModuleName::new("layer"), ModuleSpec::new(width, 3))].into(),
        head: [("classifier.bias".to_owned(), vec![2])].into(),
    })
}

/// All zeros: the toy trainer gets from there to its target without any rounding.
pub(crate) fn zeros(width: usize) -> Adapter {
    Adapter::zeros(spec(width)).expect("a valid specification")
}

/// An adapter with values of its own for each seed.
pub(crate) fn adapter(width: usize, seed: u64) -> Adapter {
    let (spec, mut modules, head) =
        Adapter::initial(spec(width), Seed(seed)).expect("a valid specification").into_parts();
    for factors in modules.values_mut() {
        factors.b.values_mut().fill(seed as f32);
    }
    Adapter::new(spec, modules, head).expect("finite")
}

pub(crate) fn local() -> LocalHyperparameters {
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

/// Writes an identity for clear text.
pub(crate) fn identity(folder: &Path) -> Identity {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    std::fs::create_dir_all(folder).expect("writable");
    write("identity.json", r#"{"client_id": 5, "name": "north"}"#);
    write("certificate.pem", "none");
    write("key.pem", "none");
    write("access-token", "open-sesame\n");
    Identity::load(folder).expect("complete")
}

/// What a client of a test has beside its link.
pub(crate) struct Client {
    pub(crate) terms: Terms,
    pub(crate) watch: Watch,
    pub(crate) stop: Stop,
    link: Option<GrpcLink>,
}

impl Client {
    /// A client with a state directory in `place` that starts to connect.
    pub(crate) fn start(coordinator: &Coordinator, place: &Path) -> Self {
        Self::with_base(coordinator, place, base_model())
    }

    pub(crate) fn with_base(coordinator: &Coordinator, place: &Path, base_model: Digest) -> Self {
        let server = coordinator.url().parse().expect("an address");
        let identity = identity(&place.join("identity"));
        let dialer = Dialer::new(&server, &identity, &Arc::new(Shown::default())).expect("clear text");
        let state = StateDir::open(&place.join("state"), b"test").expect("free");
        let (terms, watch) = (Terms::default(), Watch::default());
        let settings = LinkSettings {
            dialer: Arc::new(dialer),
            base_model,
            examples: 7,
            stay: false,
            backoff: Backoff::none(),
            terms: terms.clone(),
            watch: watch.clone(),
            progress: Progress::silent(),
        };
        let link = GrpcLink::start(settings, state).expect("threads");
        Self { terms, watch, stop: link.stopper(), link: Some(link) }
    }

    /// Plays to the end of the run.
    pub(crate) fn play<T: Trainer, S: KeptStore>(&mut self, trainer: T, store: S) -> Result<(T, S), String> {
        let link = self.link.take().expect("played once");
        let mut session = Session::new(link, trainer, store);
        let outcome = session.run();
        let (link, trainer, store) = session.into_parts();
        drop(link);
        outcome.map(|()| (trainer, store)).map_err(|error| fedlora_client::cli::chain(&error))
    }

    /// Plays with a trainer that goes to `target` in one step, and says how often it trained.
    pub(crate) fn play_to(&mut self, target: &Adapter) -> Result<usize, String> {
        let trainer =
            Counting::new(ToyTrainer::new(1.0, 1).with_target(fedlora_adapter::ClientId(5), target.clone(), 7));
        let count = trainer.count();
        self.play(trainer, MemoryStore::default())?;
        Ok(count.load(Ordering::SeqCst))
    }
}

/// Counts jobs, and does something before each one.
pub(crate) struct Counting {
    inner: ToyTrainer,
    trained: Arc<AtomicUsize>,
    before: Box<dyn FnMut() + Send>,
}

impl Counting {
    pub(crate) fn new(inner: ToyTrainer) -> Self {
        Self { inner, trained: Arc::default(), before: Box::new(|| ()) }
    }

    pub(crate) fn before(mut self, before: impl FnMut() + Send + 'static) -> Self {
        self.before = Box::new(before);
        self
    }

    pub(crate) fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.trained)
    }
}

impl Trainer for Counting {
    type Error = Infallible;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, Infallible>> {
        self.trained.fetch_add(jobs.len(), Ordering::SeqCst);
        (self.before)();
        self.inner.train(jobs)
    }
}

/// Trains until it is cancelled in the rounds that are named, and at once in the others.
pub(crate) struct Patient {
    pub(crate) watch: Watch,
    pub(crate) endless: u64,
    pub(crate) begun: Box<dyn FnMut() + Send>,
}

/// Training was cancelled.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(crate) struct Cancelled;

impl Trainer for Patient {
    type Error = Cancelled;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, Cancelled>> {
        let outcome = |job: &Job| {
            if job.plan.round.0 == self.endless {
                (self.begun)();
                while !self.watch.is_cancelled() {
                    std::thread::yield_now();
                }
                return Err(Cancelled);
            }
            Ok(LocalOutcome {
                adapter: job.start.clone(),
                examples: 1,
                steps: 0,
                train_loss: 0.0,
                last_loss: 0.0,
                spent: None,
            })
        };
        jobs.iter().map(outcome).collect()
    }
}
