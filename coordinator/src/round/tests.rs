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

fn left(round: &mut Round, client: u64, now: u64) -> Vec<RoundEffect> {
    round.handle(RoundEvent::Left { client: ClientId(client) }, Timestamp(now))
}

fn invalid(round: &mut Round, client: u64, now: u64) -> Vec<RoundEffect> {
    round.handle(RoundEvent::Invalid { client: ClientId(client) }, Timestamp(now))
}

fn tick(round: &mut Round, now: u64) -> Vec<RoundEffect> {
    round.handle(RoundEvent::Tick, Timestamp(now))
}

#[test]
fn a_round_without_a_cohort_fails_at_once() {
    let (round, effects) = Round::open(RoundId(1), [], participation(1, 1), NOW);
    let reason = FailureReason::TooFewResults { accepted: 0, needed: 1 };
    assert_eq!(effects.last(), Some(&RoundEffect::Failed(reason)));
    assert_eq!(round.phase(), Phase::Failed(reason));
}

#[test]
fn a_round_that_needs_no_results_may_have_none() {
    let sampled = Participation { deadline_ms: u64::MAX, ..participation(0, usize::MAX) };
    let (round, effects) = Round::open(RoundId(1), [], sampled, NOW);
    assert_eq!((effects, round.phase()), (vec![RoundEffect::Aggregate(Vec::new())], Phase::Closed));
    let (mut round, effects) = Round::open(RoundId(2), [ClientId(0)], sampled, NOW);
    assert_eq!((effects, round.phase()), (Vec::new(), Phase::Collecting), "whoever is there is waited for");
    let effects = round.handle(RoundEvent::Left { client: ClientId(0) }, NOW);
    assert_eq!(effects, [RoundEffect::Aggregate(Vec::new())]);
}

#[test]
fn a_round_that_may_take_forever_asks_for_no_wake_up() {
    let patient = Participation { deadline_ms: u64::MAX, ..participation(1, 1) };
    let (mut round, effects) = Round::open(RoundId(3), [ClientId(0)], patient, Timestamp(5));
    assert_eq!(effects, []);
    assert_eq!(tick(&mut round, u64::MAX - 1), []);
}

#[test]
fn the_deadline_ends_the_grace() {
    let mut round = open(3, 1, 2);
    submit(&mut round, 0, b"x", 1);
    assert!(submit(&mut round, 1, b"x", 95).contains(&RoundEffect::WakeAt(Timestamp(105))));
    assert_eq!(tick(&mut round, 100), [RoundEffect::Aggregate(vec![ClientId(0), ClientId(1)])]);
    assert_eq!(tick(&mut round, 105), [], "the second wake-up finds nothing to do");
}

#[test]
fn the_grace_is_not_prolonged_by_more_updates() {
    let mut round = open(4, 1, 2);
    submit(&mut round, 0, b"x", 1);
    submit(&mut round, 1, b"x", 2);
    assert_eq!(submit(&mut round, 2, b"x", 9), [RoundEffect::Reply(ClientId(2), Verdict::Accepted)]);
    assert_eq!(tick(&mut round, 12), [RoundEffect::Aggregate(vec![ClientId(0), ClientId(1), ClientId(2)])]);
}

#[test]
fn without_grace_the_target_closes_the_round() {
    let eager = Participation { grace_ms: 0, ..participation(1, 2) };
    let mut round = Round::open(RoundId(3), (0..4).map(ClientId), eager, NOW).0;
    submit(&mut round, 3, b"x", 1);
    let effects = submit(&mut round, 1, b"x", 1);
    assert_eq!(effects[1..], [RoundEffect::Aggregate(vec![ClientId(1), ClientId(3)])]);
}

#[test]
fn a_target_below_the_minimum_does_not_close_a_round_that_could_still_succeed() {
    let mut round = open(3, 2, 1);
    submit(&mut round, 0, b"x", 1);
    assert_eq!(tick(&mut round, 50), []);
    submit(&mut round, 1, b"x", 51);
    assert_eq!(tick(&mut round, 61), [RoundEffect::Aggregate(vec![ClientId(0), ClientId(1)])]);
}

#[test]
fn whoever_was_rejected_or_lost_may_still_send_a_valid_update() {
    let mut round = open(3, 1, 3);
    assert_eq!(verdict(&invalid(&mut round, 0, 1)), Verdict::Rejected);
    assert_eq!(left(&mut round, 1, 2), []);
    assert_eq!(round.tally(), Tally { rejected: 1, ..Tally::default() });
    assert_eq!(verdict(&submit(&mut round, 0, b"x", 3)), Verdict::Accepted);
    assert_eq!(verdict(&submit(&mut round, 1, b"x", 4)), Verdict::Accepted);
    tick(&mut round, 100);
    assert_eq!(round.tally(), Tally { accepted: 2, dropped: 1, ..Tally::default() });
}

#[test]
fn an_update_sent_again_changes_no_count() {
    let mut round = open(3, 1, 3);
    invalid(&mut round, 0, 1);
    invalid(&mut round, 0, 2);
    assert_eq!(round.tally().rejected, 1);
    tick(&mut round, 100);
    let mut fails = open(3, 1, 3);
    submit(&mut fails, 2, b"x", 1);
    tick(&mut fails, 100);
    for now in [101, 102] {
        assert_eq!(verdict(&submit(&mut fails, 0, b"x", now)), Verdict::Late);
        assert_eq!(verdict(&invalid(&mut fails, 0, now)), Verdict::Late);
    }
    assert_eq!(fails.tally(), Tally { accepted: 1, late: 1, dropped: 2, ..Tally::default() });
}

#[test]
fn an_invalid_update_does_not_undo_an_accepted_one() {
    let mut round = open(2, 1, 2);
    submit(&mut round, 0, b"x", 1);
    assert_eq!(verdict(&invalid(&mut round, 0, 2)), Verdict::Rejected);
    assert_eq!(left(&mut round, 0, 3), []);
    assert_eq!(round.tally(), Tally { accepted: 1, ..Tally::default() });
    assert_eq!(verdict(&submit(&mut round, 0, b"x", 4)), Verdict::Duplicate);
}

#[test]
fn strangers_are_turned_away_before_and_after_the_close_and_count_nowhere() {
    let mut round = open(1, 1, 1);
    for now in [1, 200] {
        assert_eq!(verdict(&submit(&mut round, 7, b"x", now)), Verdict::NotInvited);
        assert_eq!(verdict(&invalid(&mut round, 7, now)), Verdict::NotInvited);
    }
    assert_eq!(round.tally(), Tally { dropped: 1, ..Tally::default() });
}

#[test]
fn answers_of_the_server_step_are_ignored_where_none_was_asked_for() {
    let mut round = open(2, 1, 2);
    let digest = Digest::of(b"adapter");
    assert_eq!(round.handle(RoundEvent::Aggregated(digest), NOW), []);
    assert_eq!(round.handle(RoundEvent::Published, NOW), []);
    assert_eq!(round.phase(), Phase::Collecting);
    tick(&mut round, 100);
    assert_eq!(round.handle(RoundEvent::Aggregated(digest), NOW), []);
    assert!(matches!(round.phase(), Phase::Failed(_)));
}
