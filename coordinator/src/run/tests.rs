//! Laws of a sequence of rounds.

use super::*;

const NOW: Timestamp = Timestamp(0);

fn settings(num_rounds: u64, clients_per_round: usize) -> RunSettings {
    let participation =
        Participation { min_results: 1, target_results: clients_per_round, grace_ms: 0, deadline_ms: u64::MAX };
    RunSettings { num_rounds, seed: 7, clients_per_round, min_available_clients: 4, participation }
}

fn started(settings: RunSettings, done: u64) -> (Run, Vec<RunEffect>) {
    let mut run = Run::new(settings, RoundId(done)).expect("usable settings");
    run.handle(RunEvent::Start, NOW);
    let effects = (0..4).flat_map(|client| run.handle(RunEvent::Joined(ClientId(client)), NOW)).collect();
    (run, effects)
}

fn cohort(effects: &[RunEffect]) -> Option<(RoundId, Vec<ClientId>)> {
    effects.iter().find_map(|effect| match effect {
        RunEffect::Invite(round, clients) => Some((*round, clients.clone())),
        _ => None,
    })
}

/// Plays a whole round in which everyone answers.
fn play(run: &mut Run, round: RoundId, clients: &[ClientId]) -> Vec<RunEffect> {
    let digest = Digest::of(b"adapter");
    for client in clients {
        run.handle(RunEvent::Round(RoundEvent::Submitted { client: *client, round, digest }), NOW);
    }
    run.handle(RunEvent::Round(RoundEvent::Aggregated(digest)), NOW);
    run.handle(RunEvent::Round(RoundEvent::Published), NOW)
}

#[test]
fn waits_for_enough_clients_then_runs_every_round_to_the_end() {
    let (mut run, mut effects) = started(settings(3, 2), 0);
    for expected in 1..=3 {
        let (round, clients) = cohort(&effects).expect("a round begins");
        assert_eq!((round.0, clients.len()), (expected, 2));
        effects = play(&mut run, round, &clients);
    }
    assert_eq!(effects, [RunEffect::Finished(RunStatus::Completed)]);
}

#[test]
fn a_resumed_run_invites_the_same_cohorts() {
    let (mut run, effects) = started(settings(2, 2), 0);
    let (round, clients) = cohort(&effects).expect("first round");
    let second = cohort(&play(&mut run, round, &clients)).expect("second round");
    assert_eq!(cohort(&started(settings(2, 2), 1).1), Some(second));
}

#[test]
fn stop_finishes_the_open_round_first() {
    let (mut run, effects) = started(settings(9, 2), 0);
    let (round, clients) = cohort(&effects).expect("first round");
    assert_eq!(run.handle(RunEvent::Stop, NOW), []);
    assert_eq!(play(&mut run, round, &clients), [RunEffect::Finished(RunStatus::Stopped)]);
    assert_eq!(run.done(), RoundId(1));
}

#[test]
fn a_paused_run_begins_no_round_until_it_is_resumed() {
    let (mut run, effects) = started(settings(9, 2), 0);
    let (round, clients) = cohort(&effects).expect("first round");
    run.handle(RunEvent::Pause, NOW);
    assert_eq!(cohort(&play(&mut run, round, &clients)), None);
    assert!(cohort(&run.handle(RunEvent::Resume, NOW)).is_some());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    assert_eq!(Run::new(settings(1, 0), RoundId(0)), Err(RunError::NobodyInvited));
    let mut needs_more = settings(1, 2);
    needs_more.participation.min_results = 3;
    let error = RunError::Unreachable { min_results: 3, clients_per_round: 2 };
    assert_eq!(Run::new(needs_more, RoundId(0)), Err(error));
}
