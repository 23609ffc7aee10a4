//! Who is told what, and what becomes of a client that goes and comes back.

use fedlora_adapter::{ClientId, RoundId};

use super::support::{GRACE_MS, Rig, config, is_accepted};
use crate::{Command, Control, Push, RunId, RunStatus, Timestamp};

const KEYS: &str = "num-rounds = 2\nmin-available-clients = 3";

fn words(pushes: &[Push]) -> Vec<String> {
    let word = |push: &Push| match push {
        Push::Run(run) => format!("run {}", run.id.0),
        Push::Task(round) => format!("task {}", round.plan.round.0),
        Push::RoundClosed(_, round) => format!("closed {}", round.0),
        Push::RunFinished(_, status) => format!("finished {status:?}"),
        Push::End(reason) => format!("end {reason}"),
    };
    pushes.iter().map(word).collect()
}

fn heard(rig: &mut Rig, client: u64) -> Vec<String> {
    words(&rig.heard(client))
}

#[test]
fn a_client_hears_of_the_run_its_tasks_and_the_end() {
    let mut rig = Rig::new();
    (0..3).for_each(|client| rig.connect(client));
    assert_eq!(heard(&mut rig, 1), Vec::<String>::new());
    rig.start(config(KEYS));
    assert_eq!(heard(&mut rig, 1), ["run 1", "task 1"]);
    for round in 1..=2 {
        (0..3).for_each(|client| assert!(is_accepted(&rig.submit(client))));
        rig.step();
        let expected: &[&str] = if round == 1 { &["closed 1", "task 2"] } else { &["closed 2", "finished Completed"] };
        assert_eq!(heard(&mut rig, 1), expected);
    }
}

#[test]
fn a_client_that_comes_back_in_time_gets_the_same_task_again() {
    let mut rig = Rig::running(KEYS, 3);
    let task = rig.round();
    rig.disconnect(1);
    rig.advance(GRACE_MS - 1);
    rig.connect(1);
    let pushes = rig.heard(1);
    assert!(matches!(&pushes[..], [Push::Run(_), Push::Task(again)] if *again == task), "{pushes:?}");
    rig.advance(GRACE_MS);
    assert!(is_accepted(&rig.submit(1)), "the grace has no effect once it is back");
}

#[test]
fn a_client_that_has_submitted_gets_no_task_again() {
    let mut rig = Rig::running(KEYS, 3);
    rig.submit(1);
    rig.disconnect(1);
    rig.connect(1);
    assert_eq!(heard(&mut rig, 1), ["run 1"]);
}

#[test]
fn a_round_goes_on_without_a_client_that_stays_away() {
    let mut rig = Rig::running("num-rounds = 2\nmin-available-clients = 3\nmin-results = 2", 3);
    (0..2).for_each(|client| drop(rig.submit(client)));
    rig.disconnect(2);
    rig.advance(GRACE_MS - 1);
    assert_eq!(rig.phase(), "collecting");
    rig.advance(1);
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0, 1].into());
    assert!(rig.engine.view().round.is_none(), "two are fewer than the three that a round needs");
    rig.connect(2);
    assert_eq!(rig.round().plan.round, RoundId(2));
}

#[test]
fn who_declines_is_not_waited_for_and_not_asked_again_in_this_round() {
    let mut rig = Rig::running(KEYS, 3);
    rig.decline(2, 1);
    rig.disconnect(2);
    rig.connect(2);
    assert_eq!(heard(&mut rig, 2), ["run 1"]);
    (0..2).for_each(|client| drop(rig.submit(client)));
    rig.step();
    assert_eq!(heard(&mut rig, 2), ["task 2"], "the next round is another one");
    let events = rig.engine.events(0, usize::MAX).expect("readable");
    let declined = events.iter().find(|event| event.kind == "client-declined").expect("logged");
    assert_eq!(declined.detail, "reason=\"busy\\nnow\"", "a client's words cannot break a line");
}

#[test]
fn who_declined_is_not_asked_again_after_a_restart_or_a_snapshot() {
    let mut rig = Rig::running(KEYS, 3);
    rig.decline(2, 1);
    rig.restart();
    rig.connect(2);
    assert_eq!(heard(&mut rig, 2), ["run 1"]);
    // As many events as a snapshot is taken after.
    for turn in 0..600 {
        rig.connect(10 + turn % 2);
        rig.tell(Command::Expel(ClientId(10 + turn % 2))).expect("kept");
    }
    rig.restart();
    (0..3).for_each(|client| rig.connect(client));
    assert_eq!(heard(&mut rig, 2), ["run 1"]);
    (0..2).for_each(|client| drop(rig.submit(client)));
    rig.step();
    assert_eq!(heard(&mut rig, 2), ["task 2"]);
}

#[test]
fn a_second_session_ends_the_first_and_its_end_means_nothing() {
    let mut rig = Rig::running(KEYS, 3);
    let old = rig.sessions[&ClientId(1)];
    rig.pushed.clear();
    rig.connect(1);
    let ended: Vec<_> = rig.pushed.iter().filter(|(session, _)| *session == old).map(|(_, push)| push).collect();
    assert_eq!(ended, [&Push::End("superseded")]);
    rig.tell(Command::Disconnect { client: ClientId(1), session: old }).expect("nothing to keep");
    assert_eq!(rig.engine.view().connected, 3);
    assert!(rig.engine.wait_ms(Timestamp(rig.now)).is_none(), "nobody is away");
}

#[test]
fn who_is_drained_finishes_its_round_and_is_invited_no_more_even_after_a_restart() {
    let mut rig = Rig::running("num-rounds = 3\nmin-available-clients = 2", 3);
    rig.submit(0);
    rig.submit(1);
    rig.step();
    assert_eq!(rig.round().plan.round, RoundId(2), "the round began with the two that were there first");
    rig.tell(Command::Drain(ClientId(2))).expect("kept");
    (0..3).for_each(|client| assert!(is_accepted(&rig.submit(client))));
    rig.step();
    rig.restart();
    (0..3).for_each(|client| rig.connect(client));
    assert_eq!(heard(&mut rig, 2), ["run 1"]);
    let detail = rig.engine.round_detail(None, None).expect("a round");
    assert_eq!(detail.clients.iter().map(|client| client.client_id).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn who_is_expelled_is_cut_off_but_what_counted_counts() {
    let mut rig = Rig::running(KEYS, 3);
    rig.submit(2);
    rig.pushed.clear();
    let session = rig.sessions[&ClientId(2)];
    rig.tell(Command::Expel(ClientId(2))).expect("kept");
    assert_eq!(rig.pushed, [(session, Push::End("revoked"))]);
    (0..2).for_each(|client| drop(rig.submit(client)));
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0, 1, 2].into());
    assert!(rig.engine.view().round.is_none(), "the run waits for a third client");
}

#[test]
fn after_a_restart_clients_have_the_grace_to_come_back() {
    let mut rig = Rig::running(KEYS, 3);
    rig.submit(0);
    rig.restart();
    rig.connect(1);
    assert_eq!(heard(&mut rig, 1), ["run 1", "task 1"]);
    rig.advance(GRACE_MS);
    assert_eq!(rig.phase(), "collecting");
    rig.submit(1);
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0, 1].into(), "client 2 did not come back");
}

#[test]
fn a_client_that_comes_back_too_late_is_told_to_stop() {
    let mut rig = Rig::running("num-rounds = 2\nmin-available-clients = 3\nround-deadline-ms = 100", 3);
    rig.submit(0);
    rig.restart();
    rig.advance(100);
    assert_eq!(rig.phase(), "closed");
    rig.connect(1);
    assert_eq!(heard(&mut rig, 1), ["run 1", "closed 1"]);
}

#[test]
fn the_state_of_clients_is_shown() {
    let mut rig = Rig::running("num-rounds = 2\nmin-available-clients = 4", 4);
    rig.submit(0);
    let session = rig.sessions[&ClientId(1)];
    let (client, round, steps_done) = (ClientId(1), RoundId(1), 7);
    rig.tell(Command::Progress { client, session, round, steps_done }).expect("nothing to keep");
    rig.decline(3, 1);
    let detail = rig.engine.round_detail(None, None).expect("a round");
    let rows: Vec<_> = detail.clients.iter().map(|row| (row.state.as_str(), row.steps)).collect();
    assert_eq!(rows, [("accepted", 3), ("training", 7), ("waiting", 0), ("gone", 0)]);
}

#[test]
fn a_stopped_run_is_over_for_everybody() {
    let mut rig = Rig::running("num-rounds = 9\nmin-available-clients = 3", 2);
    heard(&mut rig, 1);
    rig.tell(Command::Control { run: None, control: Control::Stop }).expect("kept");
    assert_eq!(rig.heard(1), [Push::RunFinished(RunId(1), RunStatus::Stopped)]);
    rig.tell(Command::Shutdown).expect("nothing to keep");
    assert_eq!((rig.heard(0).pop(), rig.engine.view().connected), (Some(Push::End("draining")), 0));
}
