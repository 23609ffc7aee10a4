//! Whatever happens in whatever order: counts agree, nothing is aggregated twice, no client counts twice.

use std::collections::{BTreeMap, BTreeSet};

use fedlora_adapter::{ClientId, Digest, RoundId};
use fedlora_coordinator::{
    FailureReason, Participation, Phase, Round, RoundEffect, RoundEvent, Run, RunEffect, RunEvent, RunSettings,
    RunStatus, Timestamp, Verdict,
};
use proptest::prelude::*;

/// The number of the round under test.
const ROUND: RoundId = RoundId(2);

fn any_client() -> impl Strategy<Value = ClientId> {
    (0_u64..6).prop_map(ClientId)
}

fn any_round_event() -> impl Strategy<Value = RoundEvent> {
    let digest = (0_u8..3).prop_map(|content| Digest::of(&[content]));
    let submitted = (any_client(), 1_u64..4, digest.clone())
        .prop_map(|(client, round, digest)| RoundEvent::Submitted { client, round: RoundId(round), digest });
    prop_oneof![
        8 => submitted,
        2 => any_client().prop_map(|client| RoundEvent::Invalid { client }),
        2 => any_client().prop_map(|client| RoundEvent::Left { client }),
        2 => Just(RoundEvent::Tick),
        2 => digest.prop_map(RoundEvent::Aggregated),
        1 => Just(RoundEvent::StepFailed),
        2 => Just(RoundEvent::Published),
    ]
}

fn any_participation() -> impl Strategy<Value = Participation> {
    let deadline_ms = prop_oneof![1_u64..60, Just(u64::MAX)];
    (0_usize..4, 0_usize..6, 0_u64..20, deadline_ms).prop_map(|(min_results, target_results, grace_ms, deadline_ms)| {
        Participation { min_results, target_results, grace_ms, deadline_ms }
    })
}

/// Events with the time that passes before each.
fn timed<T: std::fmt::Debug>(event: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(T, u64)>> {
    prop::collection::vec((event, 0_u64..8), 0..60)
}

/// What an observer of the effects knows about a round.
#[derive(Default)]
struct Observed {
    accepted: BTreeMap<ClientId, Digest>,
    aggregated: Option<Vec<ClientId>>,
    failed: bool,
    published: bool,
}

impl Observed {
    fn is_closed(&self) -> bool {
        self.failed || self.aggregated.is_some()
    }

    /// Takes the effects of one event and asserts what no sequence may violate.
    fn see(&mut self, event: Option<RoundEvent>, effects: &[RoundEffect]) {
        for effect in effects {
            match effect {
                RoundEffect::Reply(client, verdict) => self.see_verdict(event, *client, *verdict),
                RoundEffect::Aggregate(clients) => {
                    assert!(!self.is_closed(), "closed twice");
                    assert!(clients.iter().eq(self.accepted.keys()), "in order, all of the accepted and no other");
                    self.aggregated = Some(clients.clone());
                }
                RoundEffect::Failed(reason) => {
                    assert!(!self.failed && !self.published, "over twice");
                    let by_server_step = *reason == FailureReason::ServerStep;
                    assert_eq!(self.aggregated.is_some(), by_server_step, "closed twice");
                    self.failed = true;
                }
                RoundEffect::Publish(_) => {
                    assert!(self.aggregated.is_some() && !self.published, "published once, after the server step");
                    self.published = true;
                }
                RoundEffect::WakeAt(_) => {}
            }
        }
    }

    fn see_verdict(&mut self, event: Option<RoundEvent>, client: ClientId, verdict: Verdict) {
        let Some(RoundEvent::Submitted { round, digest, .. }) = event else { return };
        let first = self.accepted.get(&client).filter(|_| round == ROUND);
        match verdict {
            Verdict::Accepted => {
                assert!(!self.is_closed() && round == ROUND);
                assert_eq!(self.accepted.insert(client, digest), None, "accepted twice");
            }
            Verdict::Duplicate => assert_eq!(first, Some(&digest)),
            Verdict::Conflict => assert!(first.is_some_and(|first| *first != digest)),
            Verdict::Late => assert!(round != ROUND || self.is_closed() && first.is_none()),
            Verdict::NotInvited => assert!(first.is_none()),
            Verdict::Rejected => panic!("a valid update was rejected"),
        }
    }
}

proptest! {
    #[test]
    fn a_round_counts_every_client_once_and_closes_once(
        cohort in prop::collection::btree_set(any_client(), 0..5),
        participation in any_participation(),
        events in timed(any_round_event()),
    ) {
        let mut now = Timestamp(0);
        let (mut round, effects) = Round::open(ROUND, cohort.iter().copied(), participation, now);
        let mut observed = Observed::default();
        observed.see(None, &effects);
        let mut at_close = None;
        for (event, pause) in events {
            now = now + pause;
            let effects = round.handle(event, now);
            observed.see(Some(event), &effects);
            let tally = round.tally();
            prop_assert_eq!(tally.accepted, observed.accepted.len() as u64);
            prop_assert!(observed.accepted.keys().all(|client| cohort.contains(client)));
            prop_assert!(tally.late <= 6);
            if observed.is_closed() {
                prop_assert_eq!(tally.accepted + tally.rejected + tally.dropped, cohort.len() as u64);
                let frozen = (tally.accepted, tally.rejected, tally.dropped);
                prop_assert_eq!(*at_close.get_or_insert(frozen), frozen);
            } else {
                prop_assert_eq!((round.phase(), tally.dropped), (Phase::Collecting, 0));
                prop_assert!(now < Timestamp(0) + participation.deadline_ms, "open after its deadline");
            }
            if let Some(clients) = &observed.aggregated {
                prop_assert!(clients.len() >= participation.min_results);
            }
        }
    }
}

fn any_run_event() -> impl Strategy<Value = RunEvent> {
    prop_oneof![
        4 => any_client().prop_map(RunEvent::Joined),
        2 => any_client().prop_map(RunEvent::Left),
        1 => any_client().prop_map(RunEvent::Drained),
        1 => Just(RunEvent::Start),
        1 => Just(RunEvent::Pause),
        1 => Just(RunEvent::Resume),
        1 => Just(RunEvent::Stop),
        24 => any_round_event().prop_map(RunEvent::Round),
    ]
}

proptest! {
    #[test]
    fn a_run_opens_rounds_one_after_another_and_ends_once(
        clients_per_round in 1_usize..4,
        min_available_clients in 0_usize..4,
        participation in any_participation(),
        done in 0_u64..3,
        events in timed(any_run_event()),
    ) {
        let settings = RunSettings { num_rounds: 3, seed: 1, clients_per_round, sample_rate: None, min_available_clients, participation };
        prop_assume!(participation.min_results <= clients_per_round);
        let mut run = Run::new(settings, RoundId(done)).expect("usable settings");
        let (mut joined, mut paused, mut finished) = (BTreeSet::new(), false, None);
        let (mut invited, mut aggregated, mut published) = (RoundId(done), BTreeSet::new(), BTreeSet::new());
        let mut now = Timestamp(0);
        for (event, pause) in events {
            now = now + pause;
            match event {
                RunEvent::Joined(client) => drop(joined.insert(client)),
                RunEvent::Left(client) | RunEvent::Drained(client) => drop(joined.remove(&client)),
                RunEvent::Pause => paused = true,
                RunEvent::Resume => paused = false,
                _ => {}
            }
            for effect in run.handle(event, now) {
                match effect {
                    RunEffect::Invite(round, cohort) => {
                        prop_assert!(finished.is_none() && !paused);
                        prop_assert_eq!((round, run.done()), (invited.next(), invited));
                        prop_assert!(cohort.is_sorted_by(|first, second| first < second), "each client once");
                        prop_assert!(cohort.iter().all(|client| joined.contains(client)));
                        prop_assert_eq!(cohort.len(), clients_per_round.min(joined.len()));
                        invited = round;
                    }
                    RunEffect::Aggregate(round, clients) => {
                        prop_assert!(round == invited && aggregated.insert(round), "aggregated twice");
                        prop_assert_eq!(clients.len() as u64, run.tally().accepted);
                    }
                    RunEffect::Publish(round, _) => {
                        prop_assert!(aggregated.contains(&round) && published.insert(round), "published twice");
                    }
                    RunEffect::Finished(status) => {
                        prop_assert_eq!(finished.replace(status), None, "over twice");
                    }
                    RunEffect::Reply(..) | RunEffect::WakeAt(_) => {}
                }
            }
            prop_assert!(run.done() <= invited && invited.0 <= run.done().0 + 1);
            if let Some(status) = finished {
                prop_assert_eq!(run.status(), status);
            } else {
                prop_assert_eq!(run.status() == RunStatus::Paused, paused);
            }
        }
    }

    #[test]
    fn a_run_that_is_stored_and_restored_between_any_two_events_goes_on_as_if_it_had_not_been(
        participation in any_participation(), events in timed(any_run_event()),
    ) {
        let settings =
            RunSettings { num_rounds: 3, seed: 1, clients_per_round: 3, sample_rate: None, min_available_clients: 1, participation };
        let mut run = Run::new(settings, RoundId(0)).expect("usable settings");
        let mut restored = run.clone();
        let mut now = Timestamp(0);
        for (event, pause) in events {
            now = now + pause;
            let json = serde_json::to_string(&restored).expect("plain data");
            restored = serde_json::from_str(&json).expect("just written");
            prop_assert_eq!(run.handle(event, now), restored.handle(event, now));
            prop_assert_eq!(&run, &restored);
        }
    }
}
