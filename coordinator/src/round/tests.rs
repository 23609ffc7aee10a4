//! Laws of one round.

use super::*;

const NOW: Timestamp = Timestamp(0);

fn participation(min: usize, target: usize) -> Participation {
    Participation { min_results: min, target_results: target, grace_ms: 10, deadline_ms: 100 }
}

fn open(clients: u64, min: usize, target: usize) -> Round {
    Round::open(RoundId(3), (0..clients).map(ClientId), participation(min, target), NOW).0
}

fn submit(round: &mut Round, client: u64, content: &[u8], now: u64) -> Vec<RoundEffect> {
    let digest = Digest::of(content);
    round.handle(RoundEvent::Submitted { client: ClientId(client), round: RoundId(3), digest }, Timestamp(now))
}

fn verdict(effects: &[RoundEffect]) -> Verdict {
    match effects.first() {
        Some(RoundEffect::Reply(_, verdict)) => *verdict,
        other => panic!("expected a reply, found {other:?}"),
    }
}

#[test]
fn closes_when_everyone_has_answered_and_lists_clients_in_order() {
    let mut round = open(3, 1, 3);
    for client in [2, 0] {
        assert_eq!(verdict(&submit(&mut round, client, b"x", 1)), Verdict::Accepted);
    }
    let effects = round.handle(RoundEvent::Left { client: ClientId(1) }, Timestamp(2));
    assert_eq!(effects, [RoundEffect::Aggregate(vec![ClientId(0), ClientId(2)])]);
    assert_eq!(round.tally(), Tally { accepted: 2, dropped: 1, ..Tally::default() });
}

#[test]
fn waits_for_the_grace_after_the_target_is_reached() {
    let mut round = open(3, 1, 2);
    submit(&mut round, 0, b"x", 1);
    let effects = submit(&mut round, 1, b"x", 2);
    assert!(effects.contains(&RoundEffect::WakeAt(Timestamp(12))));
    assert_eq!(round.handle(RoundEvent::Tick, Timestamp(11)), []);
    let effects = round.handle(RoundEvent::Tick, Timestamp(12));
    assert_eq!(effects, [RoundEffect::Aggregate(vec![ClientId(0), ClientId(1)])]);
}

#[test]
fn closes_at_the_deadline_and_what_comes_later_does_not_count() {
    let mut round = open(3, 1, 3);
    submit(&mut round, 0, b"x", 1);
    let effects = round.handle(RoundEvent::Tick, Timestamp(100));
    assert_eq!(effects, [RoundEffect::Aggregate(vec![ClientId(0)])]);
    assert_eq!(verdict(&submit(&mut round, 1, b"x", 101)), Verdict::Late);
    assert_eq!(round.tally(), Tally { accepted: 1, late: 1, dropped: 2, ..Tally::default() });
}

#[test]
fn a_repeated_update_is_answered_again_but_counts_once() {
    let mut round = open(2, 1, 2);
    submit(&mut round, 0, b"x", 1);
    assert_eq!(verdict(&submit(&mut round, 0, b"x", 2)), Verdict::Duplicate);
    assert_eq!(verdict(&submit(&mut round, 0, b"y", 3)), Verdict::Conflict);
    submit(&mut round, 1, b"x", 4);
    assert_eq!(verdict(&submit(&mut round, 0, b"x", 5)), Verdict::Duplicate);
    assert_eq!(round.tally().accepted, 2);
}

#[test]
fn strangers_and_other_rounds_are_turned_away() {
    let mut round = open(2, 1, 2);
    assert_eq!(verdict(&submit(&mut round, 7, b"x", 1)), Verdict::NotInvited);
    let event = RoundEvent::Submitted { client: ClientId(0), round: RoundId(2), digest: Digest::of(b"x") };
    assert_eq!(verdict(&round.handle(event, NOW)), Verdict::Late);
    assert_eq!(round.tally().accepted, 0);
}

#[test]
fn too_few_results_fail_the_round() {
    let mut round = open(2, 2, 2);
    submit(&mut round, 0, b"x", 1);
    let effects = round.handle(RoundEvent::Invalid { client: ClientId(1) }, Timestamp(2));
    let reason = FailureReason::TooFewResults { accepted: 1, needed: 2 };
    assert!(effects.contains(&RoundEffect::Failed(reason)));
    assert_eq!(round.phase(), Phase::Failed(reason));
}

#[test]
fn goes_from_closed_through_aggregated_to_published() {
    let mut round = open(1, 1, 1);
    submit(&mut round, 0, b"x", 1);
    round.handle(RoundEvent::Tick, Timestamp(11));
    let digest = Digest::of(b"adapter");
    assert_eq!(round.handle(RoundEvent::Aggregated(digest), Timestamp(12)), [RoundEffect::Publish(digest)]);
    assert_eq!(round.handle(RoundEvent::Aggregated(digest), Timestamp(12)), [], "once is enough");
    round.handle(RoundEvent::Published, Timestamp(13));
    assert_eq!(round.phase(), Phase::Published(digest));
}
