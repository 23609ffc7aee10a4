//! An engine that ends anywhere and begins again.

use std::fs;

use fedlora_adapter::{ClientId, Digest, RoundId};

use super::support::{Rig, config, engine, is_accepted};
use crate::{Command, Control, Engine, EngineSettings, RunId, Timestamp};

const KEYS: &str = "num-rounds = 3\nmin-available-clients = 3";

#[test]
fn the_same_round_goes_on_with_the_same_cohort_deadline_and_updates() {
    let mut rig = Rig::running(&format!("{KEYS}\nround-deadline-ms = 90000"), 3);
    rig.submit(1);
    let (round, before) = (rig.round(), rig.engine.round_detail(None, None).expect("a round"));
    rig.restart();
    assert_eq!(rig.round(), round);
    assert_eq!(rig.engine.round_detail(None, None).expect("a round"), before);
    assert!(is_accepted(&rig.submit(0)) && is_accepted(&rig.submit(2)));
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0, 1, 2].into());
}

#[test]
fn a_server_step_that_was_due_is_done_after_the_restart_with_the_same_result() {
    let mut rig = Rig::running(KEYS, 3);
    (0..3).for_each(|client| drop(rig.submit(client)));
    let first = rig.steps.pop().expect("due").perform();
    rig.restart();
    let second = rig.steps.last().expect("due again").perform();
    let blob = |outcome: &crate::StepOutcome| outcome.result.as_ref().expect("combined").blob;
    assert_eq!(blob(&first), blob(&second));
    rig.step();
    rig.tell(Command::Step(Box::new(first))).expect("an outcome from before changes nothing");
    assert_eq!(rig.round().plan.round, RoundId(2));
    assert_eq!(rig.kinds().iter().filter(|kind| *kind == "round-published").count(), 1);
}

#[test]
fn a_restart_after_every_command_gives_what_no_restart_gives() {
    let play = |restarts: bool| {
        let mut rig = Rig::running(KEYS, 4);
        for _ in 0..3 {
            for client in [3, 1, 0, 2] {
                rig.submit(client);
                if restarts {
                    rig.restart();
                    (0..4).for_each(|client| rig.connect(client));
                }
            }
            rig.step();
        }
        let checkpoints = rig.engine.checkpoints(None).expect("known");
        (checkpoints.into_iter().map(|one| (one.round, one.blob)).collect::<Vec<_>>(), rig.kinds())
    };
    let (plain, restarted) = (play(false), play(true));
    assert_eq!(plain.0.len(), 4);
    assert_eq!(plain, restarted);
}

#[test]
fn a_pause_outlives_the_process() {
    let mut rig = Rig::running(KEYS, 3);
    rig.tell(Command::Control { run: None, control: Control::Pause }).expect("kept");
    rig.restart();
    (0..3).for_each(|client| rig.connect(client));
    (0..3).for_each(|client| drop(rig.submit(client)));
    rig.step();
    assert!(rig.engine.view().round.is_none());
    assert_eq!(rig.engine.run_summary(RunId(1)).expect("known").status, "paused");
    rig.restart();
    rig.tell(Command::Control { run: None, control: Control::Resume }).expect("kept");
    assert_eq!(rig.round().plan.round, RoundId(2));
}

#[test]
fn files_that_no_record_names_are_removed_and_awaited_uploads_stay() {
    let mut rig = Rig::running(KEYS, 3);
    rig.submit(0);
    let orphan = rig.blobs.write(b"of a transaction that never was").expect("written");
    let half = [(1, true), (0, false), (9, false)].map(|(client, stays)| {
        let path = rig.blobs.spool_path(ClientId(client), Digest::of(b"half"));
        fs::write(&path, b"half").expect("writable");
        (path, stays)
    });
    rig.restart();
    assert!(!rig.blobs.contains(orphan));
    for (path, stays) in half {
        assert_eq!(path.exists(), stays, "{}", path.display());
    }
    assert_eq!(rig.files("blobs"), 2, "the first adapter and the accepted update");
}

#[test]
fn update_files_are_removed_once_their_round_is_published() {
    let mut rig = Rig::running(KEYS, 3);
    (0..3).for_each(|client| drop(rig.submit(client)));
    assert_eq!(rig.files("blobs"), 4);
    rig.step();
    assert_eq!(rig.files("blobs"), 2, "the first adapter and the published one");
}

#[test]
fn an_update_file_that_is_the_published_adapter_too_stays() {
    let mut rig = Rig::running("num-rounds = 2\nmin-available-clients = 1", 1);
    let update = rig.update(0);
    rig.submit_this(update);
    rig.step();
    assert_eq!(rig.engine.checkpoints(None).expect("known")[1].blob, update.blob.to_hex(), "the mean of one");
    assert!(rig.blobs.contains(update.blob));
    rig.restart();
    assert_eq!(rig.counted(RunId(1), 1), [0].into());
}

#[test]
fn many_events_without_a_publication_are_read_back() {
    let mut rig = Rig::running("num-rounds = 1\nmin-available-clients = 20", 0);
    for turn in 0..1_200 {
        rig.connect(turn % 10);
        rig.tell(Command::Expel(ClientId(turn % 10))).expect("kept");
    }
    (0..19).for_each(|client| rig.connect(client));
    rig.restart();
    assert!(rig.engine.view().round.is_none());
    rig.connect(19);
    assert_eq!(rig.engine.round_detail(None, None).expect("a round").clients.len(), 20, "the pool is what it was");
}

#[test]
fn the_state_lives_in_one_directory_that_one_process_uses() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || Engine::open(folder.path(), EngineSettings::default(), Timestamp(5));
    let mut first = open().expect("writable");
    let model = Box::new(super::support::model());
    let config = Box::new(config("num-rounds = 1"));
    first.handle(Command::StartRun { config, model, key: "once".to_owned() }, Timestamp(5)).expect("kept");
    let error = open().expect_err("locked");
    assert!(error.to_string().contains("coordinator.redb"), "{error}");
    drop(first);
    let mut second = open().expect("free again");
    assert_eq!(second.runs().expect("readable").len(), 1);
    assert_eq!(second.events(0, 9).expect("readable")[0].kind, "run-started");
}

#[test]
fn a_damaged_adapter_is_named_and_nothing_is_built_on_it() {
    let mut rig = Rig::running(KEYS, 3);
    let blob = rig.round().blob;
    fs::write(rig.blobs.path(blob), b"damaged").expect("writable");
    let error = Engine::new(Box::new(rig.store.clone()), rig.blobs.clone(), EngineSettings::default(), Timestamp(0))
        .expect_err("no such adapter");
    assert!(error.to_string().contains(&blob.to_hex()), "{error}");
    rig.restart_fails_without(blob);
}

impl Rig {
    fn restart_fails_without(&mut self, blob: Digest) {
        fs::remove_file(self.blobs.path(blob)).expect("there");
        let (store, blobs) = (Box::new(self.store.clone()), self.blobs.clone());
        let error = Engine::new(store, blobs, EngineSettings::default(), Timestamp(0)).expect_err("missing");
        assert!(error.to_string().contains("missing"), "{error}");
    }
}

#[test]
fn an_empty_state_has_nothing_live() {
    let rig = Rig::new();
    let mut second = engine(&rig.store, &rig.blobs, 1);
    assert!(second.view().run.is_none() && second.wait_ms(Timestamp(1)).is_none());
    assert!(second.runs().expect("readable").is_empty());
}
