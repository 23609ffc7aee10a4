//! The coordinator's machine: a disk, a file system, and now and then a process with the real engine.
//!
//! Every command goes to the engine and to the model, and their answers are compared. Commands that come within a few
//! milliseconds share a transaction, as on the engine's thread.

use std::{path::Path, sync::Arc};

use rand::Rng;
use tokio::sync::{mpsc, watch};

use super::{
    check,
    content::Contents,
    message::Down,
    model::Model,
    sabotage::{Amnesia, Sabotage},
    service::{Ask, Service},
    trace::{Checked, promise},
    turn::{Turn, broken},
    wire::{Line, Wire},
};
use crate::{
    Blobs, Command, DiskStore, Engine, EngineError, EngineSettings, Handle, RoundStore, StepTask, Timestamp, View,
    engine::{
        tests::media::{CrashDisk, CrashFiles, Power},
        thread::Request,
    },
};

/// Where a process ends, as far as its transaction is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// Nothing of it is on the disk.
    BeforeCommit,
    /// All of it is on the disk, and nobody was told.
    AfterCommit,
}

/// What came of a turn.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) answers: Vec<(Line, Down)>,
    pub(super) steps: Vec<StepTask>,
    pub(super) has_crashed: bool,
}

/// A process.
pub(super) struct Running {
    pub(super) engine: Engine,
    pub(super) view: watch::Sender<View>,
    pub(super) service: Service,
    /// Commands that no client gives: steps that are done, time that passed, what the operator wants.
    pub(super) own: Vec<Command>,
    /// Events of the log that were looked at.
    pub(super) events: u64,
    // Held so that the handle finds its channels open.
    _changes: watch::Sender<u64>,
    _requests: mpsc::Receiver<Request>,
}

/// The machine.
pub(super) struct Host {
    folder: tempfile::TempDir,
    disk: CrashDisk,
    files: Arc<CrashFiles>,
    sabotage: Sabotage,
    pub(super) model: Model,
    pub(super) running: Option<Running>,
    /// The next transaction is the process's last; or, if so, the next one in which an update is handed in.
    pub(super) crash: Option<(Crash, bool)>,
}

impl Host {
    pub(super) fn new(model: Model, sabotage: Sabotage) -> Self {
        let power = Power::on();
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            disk: CrashDisk::new(&power),
            files: Arc::new(CrashFiles::new(&power)),
            sabotage,
            model,
            running: None,
            crash: None,
        }
    }

    /// A process begins, and must find everything that was acknowledged.
    pub(super) fn begin(&mut self, clock: u64) -> Checked {
        let mut engine = self.open(clock).map_err(broken)?;
        self.model.begin(clock);
        check::receipts(&mut engine, &self.model)?;
        let mut running = Running::new(engine);
        check::compare(&mut running.engine, &mut self.model, &mut running.events)?;
        // What the last process left undone.
        running.own.push(Command::Tick);
        self.running = Some(running);
        Ok(())
    }

    fn open(&self, clock: u64) -> Result<Engine, EngineError> {
        let disk = self.disk.clone();
        let open = move || redb::Builder::new().create_with_backend(disk.clone());
        let store = DiskStore::with(Path::new("network.redb"), open)?;
        let store: Box<dyn RoundStore> = match self.sabotage {
            Sabotage::Amnesia => Box::new(Amnesia::over(store, false)),
            Sabotage::LyingDisk => Box::new(Amnesia::over(store, true)),
            _ => Box::new(store),
        };
        let blobs = Blobs::over(self.folder.path(), Arc::<CrashFiles>::clone(&self.files))?;
        let settings =
            EngineSettings { reconnect_grace_ms: self.model.rules.reconnect_ms, ..EngineSettings::default() };
        Engine::new(store, blobs, settings, Timestamp(clock))
    }

    /// The process ends at once. Without power, what was not synchronised is lost, or torn.
    pub(super) fn end(&mut self, loses_power: bool, rng: &mut impl Rng) {
        (self.running, self.crash) = (None, None);
        if loses_power {
            self.disk.crash(rng);
            self.files.crash(rng);
        }
    }

    /// When the engine wants to look at the clock.
    pub(super) fn wait_ms(&mut self, clock: u64) -> Checked<Option<u64>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        self.model.observe(clock);
        let (found, expected) = (running.engine.wait_ms(Timestamp(clock)), self.model.wait_ms());
        promise(found == expected, || {
            format!("the engine sleeps for {found:?} ms, the next thing is due in {expected:?}")
        })?;
        Ok(found)
    }

    /// Serves what waits, in one transaction, or two where something is to be read in between.
    pub(super) fn serve(&mut self, clock: u64, contents: &Contents, wire: &Wire) -> Checked<Served> {
        let Some(mut running) = self.running.take() else { return Ok(Served::default()) };
        let (own, mut asks) = (std::mem::take(&mut running.own), std::mem::take(&mut running.service.asks));
        let has_update = asks.iter().any(|ask| matches!(ask, Ask::Submit(..)));
        let has_work = !own.is_empty() || !asks.is_empty();
        let crash = self.crash.take_if(|(_, with_update)| has_update || (has_work && !*with_update));
        let crash = crash.map(|(crash, _)| crash);
        let is_lost = crash == Some(Crash::BeforeCommit);
        // Reading commits what was staged before.
        asks.retain(|ask| !is_lost || !ask.is_question());
        let before = is_lost.then(|| self.model.clone());
        let mut turn = Turn::new(&mut running, &mut self.model, contents, wire, clock);
        own.into_iter().try_for_each(|command| turn.stage(None, command))?;
        asks.into_iter().try_for_each(|ask| turn.ask(ask))?;
        match crash {
            Some(Crash::BeforeCommit) if self.sabotage == Sabotage::EarlyReceipts => turn.answer(),
            Some(Crash::BeforeCommit) => {}
            _ => turn.commit()?,
        }
        let steps = turn.steps;
        let answers = std::mem::take(&mut running.service.answers);
        if let Some(before) = before {
            self.model = before;
        }
        if crash.is_none() {
            self.running = Some(running);
            return Ok(Served { answers, steps, has_crashed: false });
        }
        let has_told = is_lost && self.sabotage == Sabotage::EarlyReceipts;
        Ok(Served { answers: if has_told { answers } else { Vec::new() }, steps: Vec::new(), has_crashed: true })
    }
}

impl Running {
    fn new(engine: Engine) -> Self {
        let (requests, inbox) = mpsc::channel(1);
        let (view, watched) = watch::channel(engine.view());
        let (changes, changed) = watch::channel(0);
        let service = Service::new(Handle::new(requests, watched, changed, engine.blobs().clone()));
        Self { engine, view, service, own: Vec::new(), events: 0, _changes: changes, _requests: inbox }
    }

    /// Whether the engine has something to do.
    pub(super) fn has_work(&self) -> bool {
        !self.own.is_empty() || !self.service.asks.is_empty()
    }
}
