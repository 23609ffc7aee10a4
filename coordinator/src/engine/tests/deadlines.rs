//! Deadlines under clocks that stand, run and jump.

use super::support::{Rig, is_accepted};
use crate::{RunId, Timestamp, Verdict};

const KEYS: &str = "num-rounds = 2\nmin-available-clients = 3\nround-deadline-ms = 1000";

#[test]
fn a_round_closes_at_its_deadline_with_what_it_has() {
    let mut rig = Rig::running(KEYS, 3);
    rig.submit(0);
    rig.advance(999);
    assert_eq!(rig.phase(), "collecting");
    rig.advance(1);
    assert_eq!(rig.phase(), "closed");
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0].into());
}

#[test]
fn a_deadline_outlives_the_process() {
    let mut rig = Rig::running(KEYS, 3);
    let deadline = rig.round().deadline;
    rig.submit(0);
    rig.advance(600);
    rig.restart();
    assert_eq!(rig.round().deadline, deadline);
    rig.advance(400);
    assert_eq!(rig.phase(), "closed", "at the same time as without the restart");
}

#[test]
fn a_deadline_that_passed_while_nothing_ran_closes_the_round_at_once() {
    let mut rig = Rig::running(KEYS, 3);
    rig.submit(0);
    rig.now += 5_000;
    rig.restart();
    assert_eq!(rig.phase(), "closed");
}

#[test]
fn a_clock_that_goes_back_neither_closes_a_round_nor_keeps_it_open() {
    let mut rig = Rig::running(KEYS, 3);
    rig.submit(0);
    rig.advance(600);
    rig.submit(1);
    rig.now = 10;
    rig.advance(0);
    assert_eq!(rig.phase(), "collecting");
    assert_eq!(rig.engine.wait_ms(Timestamp(10)), Some(400), "the rest of the time");
    rig.advance(399);
    assert_eq!(rig.phase(), "collecting");
    rig.advance(1);
    assert_eq!(rig.phase(), "closed");
}

#[test]
fn a_clock_that_went_back_before_a_restart_does_not_keep_a_round_open() {
    let mut rig = Rig::running(KEYS, 3);
    rig.advance(600);
    rig.submit(0);
    rig.now = 10;
    rig.restart();
    rig.advance(399);
    assert_eq!(rig.phase(), "collecting");
    rig.advance(1);
    assert_eq!(rig.phase(), "closed");
}

#[test]
fn the_grace_after_the_target_outlives_the_process() {
    let keys = "num-rounds = 2\nmin-available-clients = 4\nclients-per-round = 2\nover-sample = 0.5\ngrace-ms = 50";
    let mut rig = Rig::running(keys, 4);
    let detail = rig.engine.round_detail(None, None).expect("a round");
    let cohort: Vec<u64> = detail.clients.iter().map(|client| client.client_id).collect();
    assert_eq!(cohort.len(), 3, "one more than is needed");
    for client in &cohort[..2] {
        assert!(is_accepted(&rig.submit(*client)));
    }
    rig.restart();
    rig.advance(49);
    assert_eq!(rig.phase(), "collecting");
    let late = rig.update(cohort[2]);
    rig.advance(1);
    assert_eq!(rig.phase(), "closed");
    assert_eq!(rig.submit_this(late).verdict, Verdict::Late);
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), cohort[..2].iter().copied().collect());
}
