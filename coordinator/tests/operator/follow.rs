//! Streams that go on: driven by changes, over when there is nothing more to come.

use std::time::Duration;

use crate::{
    fake::Known,
    program::Place,
    samples::{busy, current, event, metrics, open, published},
};

/// Nothing here takes that long; a stream that hangs fails its test instead of blocking it.
const FOREVER: Duration = Duration::from_mins(1);

fn finish(known: &mut Known, status: &str) {
    known.live = None;
    status.clone_into(&mut known.runs[0].status);
    known.runs[0].rounds_done = 2;
}

#[test]
fn watching_tells_what_is_new_until_the_run_is_over() {
    let place = Place::new(busy());
    let mut watch = place.follow("rounds watch");
    assert_eq!(watch.line(), "round 2 opened: 2 invited");
    assert_eq!(watch.line(), "round 2: amazon accepted (640 examples, loss 0.6875)");
    assert_eq!(watch.line(), "round 2: imdb training, 5 steps");
    place.fake.change(|known| known.rounds[1] = published(2, 2));
    assert_eq!(watch.line(), "round 2: imdb accepted (0 examples)");
    assert_eq!(watch.line(), "round 2 published: 2 of 2 accepted, loss 0.5000, adapter cdcdcdcdcdcd");
    place.fake.change(|known| finish(known, "completed"));
    assert_eq!(watch.line(), "run 2 sentences, fedsa-lora: completed after 2 of 3 rounds");
    assert_eq!(watch.line(), "next: fedlora-coordinator export --out adapter");
    assert_eq!((watch.line(), watch.code()), (String::new(), Some(0)));
}

#[test]
fn no_round_is_skipped_however_fast_they_pass() {
    let place = Place::new(busy());
    let mut watch = place.follow("rounds watch");
    for _ in 0..3 {
        watch.line();
    }
    place.fake.change(|known| {
        known.rounds = [2, 3, 4].map(|round| published(2, round)).to_vec();
        finish(known, "completed");
    });
    let lines: Vec<String> = std::iter::repeat_with(|| watch.line()).take_while(|line| !line.is_empty()).collect();
    let over: Vec<&str> =
        lines.iter().filter_map(|line| line.split(" published").next().filter(|l| l != line)).collect();
    assert_eq!(over, ["round 2", "round 3", "round 4"], "{lines:?}");
}

#[test]
fn watching_waits_for_a_run_and_ends_with_its_failure() {
    let place = Place::new(Known { live: None, runs: Vec::new(), rounds: Vec::new(), ..busy() });
    let mut watch = place.follow("rounds watch");
    assert_eq!(watch.line(), "no run is live; waiting for one");
    place.fake.change(|known| {
        (known.live, known.runs) = (Some(current(2)), busy().runs);
    });
    place.fake.change(|known| known.rounds = vec![open(2, 1)]);
    assert_eq!(watch.line(), "round 1 opened: 2 invited");
    place.fake.change(|known| {
        "1 of 2 results".clone_into(&mut known.runs[0].reason);
        finish(known, "failed");
    });
    let lines: Vec<String> = std::iter::repeat_with(|| watch.line()).take_while(|line| !line.is_empty()).collect();
    let last = lines.iter().find(|line| line.starts_with("run 2")).expect("how the run ended");
    assert_eq!(last, "run 2 sentences, fedsa-lora: failed after 2 of 3 rounds: 1 of 2 results");
    assert_eq!(watch.code(), Some(4));
}

#[test]
fn machines_get_one_object_a_line() {
    let place = Place::new(busy());
    let mut watch = place.follow("rounds watch --format json");
    let mut next = || serde_json::from_str::<serde_json::Value>(&watch.line()).expect("one JSON object");
    let first = next();
    assert_eq!((&first["schema_version"], &first["status"]), (&"1".into(), &"ok".into()));
    assert_eq!(first["data"]["round"]["clients"][0]["name"], "amazon");
    place.fake.change(|known| finish(known, "completed"));
    assert_eq!(next()["data"]["run"]["status"], "completed");
}

#[test]
fn the_log_goes_on_with_what_happens() {
    let place = Place::new(busy());
    let mut log = place.follow("log --follow --after 2");
    assert_eq!(log.line(), "2026-11-24 18:00:03 UTC #3 update-accepted run=2 round=1 client=0 examples=640");
    place.fake.change(|known| known.events.push(event(4, "round-closed", 1, None, "")));
    assert_eq!(log.line(), "2026-11-24 18:00:04 UTC #4 round-closed run=2 round=1");
}

#[test]
fn an_event_cannot_steer_the_terminal() {
    let place = Place::new(busy());
    place.fake.change(|known| known.events = vec![event(9, "client-left", 1, Some(1), "reason=\u{1b}[2J\nx")]);
    let said = place.run("log").says();
    assert_eq!(said, "2026-11-24 18:00:09 UTC #9 client-left run=2 round=1 client=1 reason=\\u{1b}[2J\\nx\n");
}

#[test]
fn metrics_follow_from_one_run_into_the_next() {
    let place = Place::new(busy());
    let mut followed = place.follow("metrics --follow");
    assert!(followed.line().starts_with("run 2 round 1: loss 0.5000, 2 of 2 accepted, norm 0.2500, 2.0 MiB up"));
    place.fake.change(|known| {
        known.metrics.push(metrics(2, 2));
        known.metrics.push(metrics(3, 1));
        known.live = Some(current(3));
    });
    assert!(followed.line().starts_with("run 2 round 2:"));
    assert!(followed.line().starts_with("run 3 round 1:"));
}

#[test]
fn metrics_of_one_run_end_with_it() {
    let place = Place::new(busy());
    let mut followed = place.follow("metrics --follow --run 2");
    assert!(followed.line().starts_with("run 2 round 1:"));
    place.fake.change(|known| {
        known.metrics.push(metrics(2, 2));
        finish(known, "completed");
    });
    assert!(followed.line().starts_with("run 2 round 2:"));
    assert_eq!((followed.line(), followed.code()), (String::new(), Some(0)));
}

#[test]
fn a_revoked_operator_sees_nothing_more() {
    let place = Place::new(busy());
    let mut log = place.follow("log --follow");
    for _ in 0..3 {
        assert!(!log.line().is_empty());
    }
    place.fake.announce_revocation(1);
    place.fake.change(|known| known.events.push(event(4, "client-left", 1, Some(1), "reason=revoked")));
    assert!(log.line().contains("client-left"));
    place.fake.announce_revocation(7);
    assert_eq!((log.line(), log.code()), (String::new(), Some(7)));
}

#[test]
fn streams_end_with_the_coordinator() {
    let place = Place::new(Known { live: None, runs: Vec::new(), rounds: Vec::new(), ..busy() });
    let (mut log, mut watch) = (place.follow("log --follow --after 2"), place.follow("rounds watch"));
    assert!(log.line().contains("update-accepted"));
    assert_eq!(watch.line(), "no run is live; waiting for one");
    place.fake.change(|known| known.is_stopped = true);
    assert_eq!((log.line(), log.code()), (String::new(), Some(6)));
    assert_eq!((watch.line(), watch.code()), (String::new(), Some(6)));
}

#[test]
fn a_reader_that_leaves_leaves_nothing_behind() {
    let place = Place::new(busy());
    let mut log = place.follow("log --follow");
    assert!(!log.line().is_empty());
    drop(log);
    let gone = async { tokio::time::timeout(FOREVER, place.fake.unfollowed()).await };
    place.block_on(gone).expect("the service notices");
}
