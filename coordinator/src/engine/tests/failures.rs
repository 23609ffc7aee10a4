//! A disk that is full or broken: one refusal in plain words, and the round goes on.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fedlora_adapter::{AdapterError, ClientId, Digest};
use fedlora_aggregation::AggregationError;
use redb::{StorageBackend, backends::InMemoryBackend};

use super::{
    media::{CrashFiles, Power},
    support::{Rig, SharedStore, config, is_accepted, model, upload},
};
use crate::{
    Answer, Blobs, Command, DiskStore, Engine, EngineError, EngineSettings, Output, RunId, StepError, StepOutcome,
    StoreError, Timestamp, UpdateMeta, Verdict,
};

/// A disk that can be full: reads go on, writes do not.
#[derive(Debug, Clone)]
struct FullDisk {
    disk: Arc<InMemoryBackend>,
    is_full: Arc<AtomicBool>,
}

impl FullDisk {
    fn room(&self) -> io::Result<()> {
        let is_full = self.is_full.load(Ordering::SeqCst);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for FullDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.room().and_then(|()| self.disk.set_len(length))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.room().and_then(|()| self.disk.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room().and_then(|()| self.disk.write(offset, data))
    }
}

/// An engine with three clients in a round, on a disk that can be full.
fn on_full_disk(rig: &mut Rig) -> Arc<AtomicBool> {
    let is_full = Arc::new(AtomicBool::new(false));
    let disk = FullDisk { disk: Arc::default(), is_full: Arc::clone(&is_full) };
    let open = move || redb::Builder::new().create_with_backend(disk.clone());
    let store = DiskStore::with(Path::new("full.redb"), open).expect("room");
    rig.engine =
        Engine::new(Box::new(store), rig.blobs.clone(), EngineSettings::default(), Timestamp(rig.now)).expect("room");
    rig.start(config("num-rounds = 2\nmin-available-clients = 3"));
    (0..3).for_each(|client| rig.connect(client));
    is_full
}

#[test]
fn a_full_disk_refuses_one_update_and_takes_it_once_there_is_room() {
    let mut rig = Rig::new();
    let is_full = on_full_disk(&mut rig);
    assert!(is_accepted(&rig.submit(0)));
    let (second, round) = (rig.update(1), rig.round());
    is_full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = rig.tell(Command::Submit(second)).expect_err("no room");
        assert!(matches!(error, EngineError::Storage(_)) && error.to_string().contains("full.redb"), "{error}");
    }
    is_full.store(false, Ordering::SeqCst);
    assert!(is_accepted(&rig.submit_this(second)), "the refused one does not count as handed in");
    assert_eq!(rig.round(), round, "the same round goes on");
    assert_eq!(rig.submit(0).verdict, Verdict::Duplicate);
    assert!(is_accepted(&rig.submit(2)));
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0, 1, 2].into());
}

#[test]
fn a_full_disk_while_a_round_is_published_publishes_it_later() {
    let mut rig = Rig::new();
    let is_full = on_full_disk(&mut rig);
    (0..3).for_each(|client| assert!(is_accepted(&rig.submit(client))));
    let task = rig.steps.pop().expect("due");
    is_full.store(true, Ordering::SeqCst);
    let outcome = Box::new(task.perform());
    assert!(matches!(rig.tell(Command::Step(outcome)), Err(EngineError::Storage(_))));
    rig.pushed.clear();
    is_full.store(false, Ordering::SeqCst);
    let wait = rig.engine.wait_ms(Timestamp(rig.now)).expect("the engine wants to try again");
    rig.now += wait;
    rig.tell(Command::Tick).expect("room");
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0, 1, 2].into());
    assert!(rig.heard(1).iter().any(|push| matches!(push, crate::Push::Task(round) if round.plan.round.0 == 2)));
}

#[test]
fn a_client_that_connects_while_the_disk_is_full_is_refused_and_not_counted_as_connected() {
    let mut rig = Rig::new();
    let is_full = on_full_disk(&mut rig);
    is_full.store(true, Ordering::SeqCst);
    let connect = Command::Connect { client: ClientId(7), examples: 1 };
    assert!(matches!(rig.tell(connect), Err(EngineError::Storage(_))));
    assert_eq!(rig.engine.view().connected, 3);
    is_full.store(false, Ordering::SeqCst);
    rig.connect(7);
    assert_eq!(rig.engine.view().connected, 4);
}

fn io_error() -> StepError {
    let source = io::Error::from(io::ErrorKind::StorageFull);
    StepError::Store(StoreError::Io { path: "blobs".into(), source })
}

/// With a closed round whose server step is due.
fn closed() -> Rig {
    let mut rig = Rig::running("num-rounds = 2\nmin-available-clients = 2", 2);
    (0..2).for_each(|client| assert!(is_accepted(&rig.submit(client))));
    rig
}

#[test]
fn a_server_step_without_room_is_tried_again_and_told_once() {
    let mut rig = closed();
    for wait in [1_000, 2_000, 4_000] {
        let task = rig.steps.pop().expect("due");
        let outcome = StepOutcome { run: task.run, round: task.round, result: Err(io_error()) };
        rig.tell(Command::Step(Box::new(outcome))).expect("kept");
        rig.advance(wait - 1);
        assert!(rig.steps.is_empty(), "not yet");
        rig.advance(1);
    }
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0, 1].into());
    assert_eq!(rig.kinds().iter().filter(|kind| *kind == "server-step-failed").count(), 1);
}

#[test]
fn a_server_step_that_can_never_be_done_fails_the_run_with_its_reason() {
    let mut rig = closed();
    let task = rig.steps.pop().expect("due");
    let error = AggregationError::from(AdapterError::NotFinite { name: "layer".to_owned(), index: 3 });
    let result = Err(StepError::from(error));
    rig.tell(Command::Step(Box::new(StepOutcome { run: task.run, round: task.round, result }))).expect("kept");
    let run = rig.engine.run_summary(RunId(1)).expect("known");
    assert_eq!((run.status.as_str(), run.rounds_done), ("failed", 0));
    assert!(run.reason.contains("round 1") && run.reason.contains("not finite"), "{}", run.reason);
    let kinds = rig.kinds();
    assert_eq!(kinds[kinds.len() - 3..], ["server-step-failed", "round-failed", "run-failed"]);
    assert_eq!(rig.files("blobs"), 1, "only the first adapter is of use");
    rig.restart();
    assert!(rig.engine.view().run.is_none());
}

#[test]
fn the_file_of_an_accepted_update_that_is_gone_fails_the_run_and_names_it() {
    let mut rig = closed();
    let task = rig.steps.pop().expect("due");
    let update = task.updates[1];
    std::fs::remove_file(rig.blobs.path(update.blob)).expect("there");
    rig.tell(Command::Step(Box::new(task.perform()))).expect("kept");
    let run = rig.engine.run_summary(RunId(1)).expect("known");
    assert!(run.status == "failed" && run.reason.contains(&update.blob.to_hex()), "{run:?}");
}

#[test]
fn too_few_results_fail_the_run_with_numbers() {
    let keys = "num-rounds = 2\nmin-available-clients = 3\nmin-results = 2\nround-deadline-ms = 100";
    let mut rig = Rig::running(keys, 3);
    rig.submit(0);
    rig.advance(100);
    let run = rig.engine.run_summary(RunId(1)).expect("known");
    assert_eq!(run.reason, "round 1 failed: 1 updates accepted, 2 needed");
    let round = rig.engine.round_detail(None, None).expect("a round").summary.expect("filled in");
    assert_eq!((round.phase.as_str(), round.accepted, round.dropped), ("failed", 1, 2));
    assert_eq!(rig.kinds().last().map(String::as_str), Some("run-failed"));
    rig.start(config("num-rounds = 1"));
}

#[test]
fn a_blob_store_without_room_names_the_file_and_leaves_no_rest() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let power = Power::on();
    let blobs = Blobs::over(folder.path(), Arc::new(CrashFiles::new(&power))).expect("writable");
    power.fails_after(1);
    let error = blobs.write(b"content").expect_err("fails while it is made durable");
    assert!(error.to_string().contains(&Digest::of(b"content").to_hex()), "{error}");
    power.restore();
    assert!(!blobs.contains(Digest::of(b"content")));
    assert!(blobs.write(b"content").is_ok());
}

#[test]
fn commands_that_share_a_failing_transaction_have_all_not_happened() {
    let mut rig = Rig::new();
    let is_full = on_full_disk(&mut rig);
    let updates: Vec<UpdateMeta> = (0..2).map(|client| rig.update(client)).collect();
    is_full.store(true, Ordering::SeqCst);
    for update in &updates {
        let answer = rig.engine.stage(Command::Submit(*update), Timestamp(rig.now)).expect("staged");
        assert!(matches!(answer, Answer::Receipt(receipt) if is_accepted(&receipt)));
    }
    assert!(rig.engine.commit().is_err() && rig.engine.is_broken());
    is_full.store(false, Ordering::SeqCst);
    for update in updates {
        assert!(is_accepted(&rig.submit_this(update)), "neither counted yet");
    }
}

#[test]
fn a_run_that_cannot_be_kept_has_not_begun() {
    let mut rig = Rig::new();
    let power = Power::on();
    let blobs = Blobs::over(rig.folder.path(), Arc::new(CrashFiles::new(&power))).expect("writable");
    rig.engine = Engine::new(Box::new(SharedStore::default()), blobs, EngineSettings::default(), Timestamp(0))
        .expect("writable");
    power.fails_after(0);
    let start = || {
        let config = config("num-rounds = 1\nmin-available-clients = 1");
        Command::StartRun { config: Box::new(config), model: Box::new(model()), key: "k".to_owned() }
    };
    assert!(matches!(rig.tell(start()), Err(EngineError::Storage(_))));
    power.restore();
    assert!(rig.engine.runs().expect("readable").is_empty());
    rig.tell(start()).expect("room");
    let (_, outputs) = rig.engine.handle(Command::Tick, Timestamp(0)).expect("nothing to keep");
    assert!(!outputs.iter().any(|output| matches!(output, Output::Step(_))));
    let spec = rig.engine.view().run.expect("live").spec.clone();
    rig.connect(0);
    let update = upload(&rig.engine.blobs().clone(), &spec, &rig.round(), 0, 1.0).expect("room");
    assert!(is_accepted(&rig.submit_this(update)));
}
