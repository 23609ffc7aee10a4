//! Power fails at random operations of disk and file system, also while the state is read back after the failure
//! before. What was acknowledged must be there, counted once, in the same round.
//!
//! The suite takes 200 images; `FEDLORA_CRASH_IMAGES=2000` takes more. A failing seed is named and replays.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use fedlora_adapter::{ClientId, Digest, Purpose, RoundId, Seed};
use rand::{Rng, RngExt};

use super::{
    media::{CrashDisk, CrashFiles, Power},
    support::{config, counted, model, upload},
};
use crate::{
    Answer, Blobs, Command, DiskStore, Engine, EngineError, EngineSettings, Output, RunId, StepTask, StoreError,
    Timestamp, Verdict,
};

const CLIENTS: u64 = 8;
/// Operations of the medium before power fails, at most: a round takes about as many.
const LONGEST_LIFE: i64 = 500;
/// Crashes of one history; looking back gets longer with each.
const IMAGES_PER_HISTORY: u64 = 10;

/// What was acknowledged, and what was seen of rounds.
#[derive(Debug, Default)]
struct Witness {
    receipts: BTreeMap<(RunId, RoundId, ClientId), Digest>,
    cohorts: BTreeMap<(RunId, RoundId), Vec<u64>>,
    published: BTreeMap<RunId, u64>,
}

/// A machine whose power fails.
struct Machine {
    folder: tempfile::TempDir,
    power: Power,
    disk: CrashDisk,
    files: Arc<CrashFiles>,
    now: u64,
    witness: Witness,
    images: u64,
    /// Clients take turns in an order of their own.
    turn: u64,
}

impl Machine {
    /// The database is made before power can fail: its file gets its name only once it is complete.
    fn new() -> Self {
        let power = Power::on();
        let machine = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            disk: CrashDisk::new(&power),
            files: Arc::new(CrashFiles::new(&power)),
            power,
            now: 1_000,
            witness: Witness::default(),
            images: 0,
            turn: 0,
        };
        machine.open().expect("power is on");
        machine
    }

    fn open(&self) -> Result<Engine, EngineError> {
        let disk = self.disk.clone();
        let open = move || redb::Builder::new().create_with_backend(disk.clone());
        let store = DiskStore::with(Path::new("crash.redb"), open)?;
        let blobs = Blobs::over(self.folder.path(), Arc::<CrashFiles>::clone(&self.files))?;
        Engine::new(Box::new(store), blobs, EngineSettings::default(), Timestamp(self.now))
    }

    fn crash(&mut self, rng: &mut impl Rng) {
        self.disk.crash(rng);
        self.files.crash(rng);
        self.images += 1;
    }

    /// Lives until power fails, then looks at what is left.
    fn life(&mut self, rng: &mut impl Rng) {
        self.power.fails_after(rng.random_range(1..LONGEST_LIFE));
        // Opening may fail too: the next life finds what this one left.
        if let Ok(mut engine) = self.open() {
            let end = self.work(&mut engine, rng);
            assert!(is_power_failure(&end), "only the medium may fail: {end:?}");
        }
        self.crash(rng);
        self.power.restore();
        let mut engine = self.open().expect("whatever power left behind can be opened");
        self.inspect(&mut engine);
    }

    /// Plays rounds for ever.
    fn work(&mut self, engine: &mut Engine, rng: &mut impl Rng) -> EngineError {
        let mut steps: Vec<StepTask> = Vec::new();
        let mut online = BTreeSet::new();
        loop {
            self.now += rng.random_range(0..40);
            if let Err(error) = self.act(engine, &mut steps, &mut online, rng) {
                return error;
            }
        }
    }

    fn act(
        &mut self,
        engine: &mut Engine,
        steps: &mut Vec<StepTask>,
        online: &mut BTreeSet<u64>,
        rng: &mut impl Rng,
    ) -> Result<(), EngineError> {
        if engine.view().run.is_none() {
            let config = config("num-rounds = 6\nmin-available-clients = 4\nround-deadline-ms = 4000");
            let (config, model) = (Box::new(config), Box::new(model()));
            return self.tell(engine, Command::StartRun { config, model, key: String::new() }, steps).map(|_| ());
        }
        self.turn = (self.turn + rng.random_range(1..CLIENTS)) % CLIENTS;
        let client = self.turn;
        match rng.random_range(0..12) {
            0 => self.tell(engine, Command::Tick, steps).map(|_| ()),
            1 if online.remove(&client) => self.tell(engine, Command::Expel(ClientId(client)), steps).map(|_| ()),
            2 => self.several(engine, steps),
            _ if online.insert(client) => {
                self.tell(engine, Command::Connect { client: ClientId(client), examples: 1 }, steps).map(|_| ())
            }
            3..=8 => self.submit(engine, client, steps),
            _ => {
                // The server step writes its file before the engine hears of it.
                let Some(task) = steps.pop() else { return Ok(()) };
                let outcome = task.perform();
                self.tell(engine, Command::Step(Box::new(outcome)), steps)?;
                // A step that failed for want of power is tried again later; here the next draw ends this life.
                self.tell(engine, Command::Tick, steps).map(|_| ())
            }
        }
    }

    /// A client uploads and submits; a submission is sometimes repeated.
    fn submit(&mut self, engine: &mut Engine, client: u64, steps: &mut Vec<StepTask>) -> Result<(), EngineError> {
        let view = engine.view();
        let (Some(run), Some(round)) = (view.run, view.round) else { return Ok(()) };
        let update = upload(engine.blobs(), &run.spec, &round, client, 1.0)?;
        let key = (update.run, update.round, update.client);
        let Answer::Receipt(receipt) = self.tell(engine, Command::Submit(update), steps)? else {
            panic!("a receipt was expected")
        };
        let before = self.witness.receipts.get(&key).copied();
        match receipt.verdict {
            Verdict::Accepted => {
                assert_eq!(before, None, "{key:?} was acknowledged before: counted twice, or forgotten");
                self.witness.receipts.insert(key, update.blob);
            }
            // Durable although the answer was lost: now it is acknowledged.
            Verdict::Duplicate => drop(self.witness.receipts.insert(key, update.blob)),
            Verdict::NotInvited => {}
            other => panic!("{key:?}: {other:?}"),
        }
        Ok(())
    }

    /// Two submissions that share one transaction.
    fn several(&mut self, engine: &mut Engine, steps: &mut Vec<StepTask>) -> Result<(), EngineError> {
        let view = engine.view();
        let (Some(run), Some(round)) = (view.run, view.round) else { return Ok(()) };
        let mut accepted = Vec::new();
        for client in [self.turn, (self.turn + 1) % CLIENTS] {
            let update = upload(engine.blobs(), &run.spec, &round, client, 1.0)?;
            let answer = engine.stage(Command::Submit(update), Timestamp(self.now))?;
            if matches!(&answer, Answer::Receipt(receipt) if receipt.verdict == Verdict::Accepted) {
                accepted.push(((update.run, update.round, update.client), update.blob));
            }
        }
        let outputs = engine.commit()?;
        self.witness.receipts.extend(accepted);
        self.note(engine, outputs, steps)
    }

    fn tell(
        &mut self,
        engine: &mut Engine,
        command: Command,
        steps: &mut Vec<StepTask>,
    ) -> Result<Answer, EngineError> {
        let (answer, outputs) = engine.handle(command, Timestamp(self.now))?;
        self.note(engine, outputs, steps)?;
        Ok(answer)
    }

    /// Notes what the engine announced: from now on it must be true.
    fn note(
        &mut self,
        engine: &mut Engine,
        outputs: Vec<Output>,
        steps: &mut Vec<StepTask>,
    ) -> Result<(), EngineError> {
        for output in outputs {
            if let Output::Step(task) = output {
                steps.push(*task);
            }
        }
        if let Some(round) = engine.view().round {
            let detail = engine.round_detail(Some(round.run), Some(round.plan.round))?;
            let cohort: Vec<u64> = detail.clients.iter().map(|client| client.client_id).collect();
            let first = self.witness.cohorts.entry((round.run, round.plan.round)).or_insert(cohort.clone());
            assert_eq!(*first, cohort, "{} began again with others", round.plan.round);
            self.witness.published.insert(round.run, round.plan.round.0 - 1);
        }
        Ok(())
    }

    /// What must be true after any crash.
    fn inspect(&mut self, engine: &mut Engine) {
        let Self { witness, .. } = self;
        for (&(run, round, client), &blob) in &witness.receipts {
            let receipt = engine.receipt(client, run, round, blob).expect("readable");
            let verdict = receipt.map(|receipt| receipt.verdict);
            assert_eq!(verdict, Some(Verdict::Accepted), "lost: {run}, {round}, {client}");
        }
        for (&run, &published) in &witness.published {
            let summary = engine.run_summary(run).expect("known");
            assert!(summary.rounds_done >= published, "{run} lost rounds: {summary:?}");
            for round in 1..=summary.rounds_done {
                let round_id = RoundId(round);
                let clients = counted(engine, run, round);
                let acknowledged = |client: &u64| witness.receipts.contains_key(&(run, round_id, ClientId(*client)));
                let lost: Vec<u64> =
                    (0..CLIENTS).filter(|client| acknowledged(client) && !clients.contains(client)).collect();
                assert!(
                    lost.is_empty(),
                    "{run}, {round_id}: {lost:?} acknowledged and not counted, {clients:?} counted"
                );
                let detail = engine.round_detail(Some(run), Some(round_id)).expect("known");
                let frozen = detail.clients.iter().filter(|client| client.state == "accepted");
                assert!(frozen.map(|client| client.client_id).eq(clients), "the frozen list is what counts");
                let cohort: Vec<u64> = detail.clients.iter().map(|client| client.client_id).collect();
                if let Some(first) = witness.cohorts.get(&(run, round_id)) {
                    assert_eq!(*first, cohort, "{run}, {round_id} began again with others");
                }
            }
        }
        let events = engine.events(0, usize::MAX).expect("readable");
        let mut opened: Vec<(u64, u64)> = events
            .iter()
            .filter(|event| event.kind == "round-opened")
            .map(|event| (event.run_id, event.round))
            .collect();
        let all = opened.len();
        opened.dedup();
        assert_eq!(opened.len(), all, "a round was opened twice");
        assert!(events.iter().map(|event| event.number).eq(1..=events.len() as u64), "the log has no gap");
    }
}

fn is_power_failure(error: &EngineError) -> bool {
    match error {
        EngineError::Storage(error) => matches!(**error, StoreError::Io { .. } | StoreError::Database { .. }),
        // The file system cannot even say whether a file is there.
        EngineError::MissingUpdate { .. } => true,
        _ => false,
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_counted_twice_whenever_power_fails() {
    let images: u64 = std::env::var("FEDLORA_CRASH_IMAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let (mut taken, mut published, mut acknowledged) = (0, 0, 0);
    for history in 0..images / IMAGES_PER_HISTORY {
        let mut rng = Seed(history).run(Purpose::Faults);
        let mut machine = Machine::new();
        while machine.images < IMAGES_PER_HISTORY {
            let image = machine.images;
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.life(&mut rng)));
            assert!(outcome.is_ok(), "history {history}, image {image}");
        }
        taken += machine.images;
        acknowledged += machine.witness.receipts.len();
        published += machine.witness.published.values().sum::<u64>();
    }
    println!("{taken} crash images, {acknowledged} acknowledged updates, {published} published rounds");
    assert!(acknowledged as u64 > images && published > images / 20, "{acknowledged} updates, {published} rounds");
}
