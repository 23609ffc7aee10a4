//! One-hot clients and an engine that can be restarted.
//!
//! Client `i` sends `A = e_i` and `B` full of the round's number. The mean of `n` such updates has `1/n` at the places
//! of exactly those clients that count, and the round's number in `B`: a lost, foreign, stale or doubly counted update
//! shows in the published adapter.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use fedlora_adapter::{
    Adapter, AdapterSpec, AdapterUpdate, ClientId, Digest, LoraFactors, ModuleName, ModuleSpec, RoundId, Side, Tensor,
    encode,
};

use super::media::{CrashFiles, Power};
use crate::{
    Answer, Blobs, Command, CurrentRound, Engine, EngineError, EngineSettings, MemoryStore, ModelDescription, Output,
    Pair, Push, Receipt, RoundStore, RunId, SessionId, StepTask, StoreError, Table, Timestamp, UpdateMeta, Verdict,
    Write, config::RunConfig, engine::plan,
};

/// Width of `A`: more clients than any test has.
pub(super) const WIDTH: usize = 24;
pub(super) const GRACE_MS: u64 = 30_000;

/// A configuration; `keys` come before the method.
pub(super) fn config(keys: &str) -> RunConfig {
    config_of("fedavg", keys)
}

pub(super) fn config_of(method: &str, keys: &str) -> RunConfig {
    let text = format!(
        "seed = 5\nlearning-rate = 0.1\nweighting = 'uniform'\n{keys}\n[method]\nname = '{method}'\n[lora]\nr = 1\n"
    );
    plan::from_toml(&text).expect("a valid configuration")
}

pub(super) fn model() -> ModelDescription {
    let module = ModuleSpec::new(WIDTH, 2);
    ModelDescription {
        base_model: "toy".to_owned(),
        task_type: None,
        digest: Digest::of(b"toy"),
        modules: BTreeMap::from([(ModuleName::new("layer"), module)]),
        head: BTreeMap::new(),
        labels: Vec::new(),
        first_values: BTreeMap::new(),
    }
}

/// A memory store that outlives the engine, as a disk does.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedStore(Arc<Mutex<MemoryStore>>);

impl SharedStore {
    fn with<T>(&self, work: impl FnOnce(&mut MemoryStore) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RoundStore for SharedStore {
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.with(|store| store.commit(writes))
    }

    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|store| store.get(table, key))
    }

    fn scan(
        &mut self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        youngest_first: bool,
    ) -> Result<Vec<Pair>, StoreError> {
        self.with(|store| store.scan(table, from, to, limit, youngest_first))
    }
}

/// An engine, its medium, a clock in the test's hand, and what was pushed to whom.
pub(super) struct Rig {
    pub(super) folder: tempfile::TempDir,
    pub(super) store: SharedStore,
    pub(super) blobs: Blobs,
    pub(super) engine: Engine,
    pub(super) now: u64,
    pub(super) sessions: BTreeMap<ClientId, SessionId>,
    pub(super) pushed: Vec<(SessionId, Push)>,
    pub(super) steps: Vec<StepTask>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = Arc::new(CrashFiles::new(&Power::on()));
        let blobs = Blobs::over(folder.path(), files).expect("a writable folder");
        let store = SharedStore::default();
        let now = 1_000;
        let engine = engine(&store, &blobs, now);
        let (sessions, pushed, steps) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { folder, store, blobs, engine, now, sessions, pushed, steps }
    }

    /// With a run started and clients `0..clients` connected.
    pub(super) fn running(keys: &str, clients: u64) -> Self {
        let mut rig = Self::new();
        rig.start(config(keys));
        (0..clients).for_each(|client| rig.connect(client));
        rig
    }

    pub(super) fn start(&mut self, config: RunConfig) -> RunId {
        let (config, model) = (Box::new(config), Box::new(model()));
        match self.tell(Command::StartRun { config, model, key: String::new() }) {
            Ok(Answer::Run(run)) => RunId(run.run_id),
            other => panic!("expected a run, found {other:?}"),
        }
    }

    /// One command in a transaction of its own.
    pub(super) fn tell(&mut self, command: Command) -> Result<Answer, EngineError> {
        let (answer, outputs) = self.engine.handle(command, Timestamp(self.now))?;
        self.take(outputs);
        Ok(answer)
    }

    pub(super) fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Push(session, push) => self.pushed.push((session, push)),
                Output::Step(task) => self.steps.push(*task),
            }
        }
    }

    pub(super) fn connect(&mut self, client: u64) {
        match self.tell(Command::Connect { client: ClientId(client), examples: 1 }) {
            Ok(Answer::Session(session)) => drop(self.sessions.insert(ClientId(client), session)),
            other => panic!("expected a session, found {other:?}"),
        }
    }

    pub(super) fn disconnect(&mut self, client: u64) {
        if let Some(session) = self.sessions.remove(&ClientId(client)) {
            self.tell(Command::Disconnect { client: ClientId(client), session }).expect("nothing to keep");
        }
    }

    pub(super) fn decline(&mut self, client: u64, round: u64) {
        let (client, round) = (ClientId(client), RoundId(round));
        let session = self.sessions[&client];
        self.tell(Command::Decline { client, session, round, reason: "busy\nnow".to_owned() }).expect("kept");
    }

    /// Time passes, and the engine is woken if it asked for it.
    pub(super) fn advance(&mut self, ms: u64) {
        self.now += ms;
        if self.engine.wait_ms(Timestamp(self.now)) == Some(0) {
            self.tell(Command::Tick).expect("kept");
        }
    }

    /// Does the server steps that are due.
    pub(super) fn step(&mut self) {
        for task in std::mem::take(&mut self.steps) {
            self.tell(Command::Step(Box::new(task.perform()))).expect("kept");
        }
    }

    /// The process ends and another one begins.
    pub(super) fn restart(&mut self) {
        self.sessions.clear();
        self.steps.clear();
        self.pushed.clear();
        self.engine = engine(&self.store, &self.blobs, self.now);
        self.tell(Command::Tick).expect("kept");
    }

    pub(super) fn round(&self) -> Arc<CurrentRound> {
        self.engine.view().round.expect("a round is open")
    }

    /// Uploads a client's one-hot file for the open round and hands it in.
    pub(super) fn submit(&mut self, client: u64) -> Receipt {
        let update = self.update(client);
        self.submit_this(update)
    }

    pub(super) fn submit_this(&mut self, update: UpdateMeta) -> Receipt {
        match self.tell(Command::Submit(update)) {
            Ok(Answer::Receipt(receipt)) => receipt,
            other => panic!("expected a receipt, found {other:?}"),
        }
    }

    /// A client's one-hot update of the open round, its file in the blob store.
    pub(super) fn update(&mut self, client: u64) -> UpdateMeta {
        let (run, round) = (self.engine.view().run.expect("a live run"), self.round());
        upload(&self.blobs, &run.spec, &round, client, 1.0).expect("a writable folder")
    }

    /// What was pushed since the last look, for one client's present session.
    pub(super) fn heard(&mut self, client: u64) -> Vec<Push> {
        let session = self.sessions[&ClientId(client)];
        let (own, others) = std::mem::take(&mut self.pushed).into_iter().partition(|(to, _)| *to == session);
        self.pushed = others;
        let own: Vec<(SessionId, Push)> = own;
        own.into_iter().map(|(_, push)| push).collect()
    }

    pub(super) fn kinds(&mut self) -> Vec<String> {
        let events = self.engine.events(0, usize::MAX).expect("readable");
        let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "no gap: {numbers:?}");
        events.into_iter().map(|event| event.kind).collect()
    }

    pub(super) fn phase(&mut self) -> String {
        self.engine.round_detail(None, None).expect("a round").summary.expect("filled in").phase
    }

    /// Clients whose update is in a published adapter.
    pub(super) fn counted(&mut self, run: RunId, round: u64) -> BTreeSet<u64> {
        counted(&mut self.engine, run, round)
    }

    /// Files in a folder of the state.
    pub(super) fn files(&self, folder: &str) -> usize {
        fs::read_dir(self.folder.path().join(folder)).expect("a folder").count()
    }
}

pub(super) fn engine(store: &SharedStore, blobs: &Blobs, now: u64) -> Engine {
    let settings = EngineSettings { reconnect_grace_ms: GRACE_MS, ..EngineSettings::default() };
    Engine::new(Box::new(store.clone()), blobs.clone(), settings, Timestamp(now)).expect("a readable state")
}

/// Spools a one-hot update of the given size, adopts it and describes it.
pub(super) fn upload(
    blobs: &Blobs,
    spec: &Arc<AdapterSpec>,
    round: &CurrentRound,
    client: u64,
    value: f32,
) -> Result<UpdateMeta, StoreError> {
    let one_hot = |shape: &[usize]| Tensor::from_fn(shape, |index| if index as u64 == client { value } else { 0.0 });
    let factors = |module: &ModuleSpec| LoraFactors {
        a: one_hot(&spec.shape(module, Side::A)),
        b: Tensor::from_fn(&spec.shape(module, Side::B), |_| round.plan.round.0 as f32),
    };
    let modules = spec.modules.iter().map(|(name, module)| (name.clone(), factors(module))).collect();
    let head = spec.head.iter().map(|(name, shape)| (name.clone(), one_hot(shape))).collect();
    let adapter = Adapter::new(Arc::clone(spec), modules, head).expect("made to match");
    hand_in(blobs, &adapter, round, client)
}

/// Spools the part of an adapter that the round asks for, adopts the file and describes it.
pub(super) fn hand_in(
    blobs: &Blobs,
    adapter: &Adapter,
    round: &CurrentRound,
    client: u64,
) -> Result<UpdateMeta, StoreError> {
    let update = AdapterUpdate::select(adapter, round.plan.directive);
    let tensors = update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
    let bytes = encode(tensors).expect("small");
    Ok(UpdateMeta {
        client: ClientId(client),
        run: round.run,
        round: round.plan.round,
        spec: round.plan.spec,
        base: round.plan.base,
        blob: blobs.write(&bytes)?,
        size_bytes: bytes.len() as u64,
        examples: 10 + client,
        steps: 3,
        train_loss: Some(0.5),
    })
}

/// Clients whose one-hot update is in a published adapter; asserts that each counts once and no stale one does.
pub(super) fn counted(engine: &mut Engine, run: RunId, round: u64) -> BTreeSet<u64> {
    let (adapter, _) = engine.export(Some(run), Some(RoundId(round))).expect("published");
    let factors = adapter.modules().values().next().expect("a module");
    let clients: BTreeSet<u64> =
        (0..).zip(factors.a.values()).filter(|(_, value)| **value != 0.0).map(|(client, _)| client).collect();
    // A share is rounded to f32 once, as the mean is.
    let share = (1.0 / clients.len() as f64) as f32;
    assert!(
        factors.a.values().iter().all(|value| *value == 0.0 || value.to_bits() == share.to_bits()),
        "once each: {factors:?}"
    );
    assert!(
        factors.b.values().iter().all(|value| value.to_bits() == (round as f32).to_bits()),
        "of this round: {factors:?}"
    );
    clients
}

pub(super) fn is_accepted(receipt: &Receipt) -> bool {
    receipt.verdict == Verdict::Accepted
}
