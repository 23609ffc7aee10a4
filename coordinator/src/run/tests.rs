//! Laws of a sequence of rounds.

use super::*;

const NOW: Timestamp = Timestamp(0);

fn settings(num_rounds: u64, clients_per_round: usize) -> RunSettings {
    let participation =
        Participation { min_results: 1, target_results: clients_per_round, grace_ms: 0, deadline_ms: u64::MAX };
    RunSettings { num_rounds, seed: 7, clients_per_round, sample_rate: None, min_available_clients: 4, participation }
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

fn tick(run: &mut Run, now: u64) -> Vec<RunEffect> {
    run.handle(RunEvent::Round(RoundEvent::Tick), Timestamp(now))
}

#[test]
fn a_run_that_has_done_all_rounds_is_complete_when_it_starts() {
    let mut run = Run::new(settings(3, 2), RoundId(3)).expect("usable settings");
    assert_eq!(run.status(), RunStatus::Pending);
    assert_eq!(run.handle(RunEvent::Start, NOW), [RunEffect::Finished(RunStatus::Completed)]);
    assert_eq!(run.handle(RunEvent::Joined(ClientId(1)), NOW), []);
}

#[test]
fn a_run_without_rounds_is_complete_when_it_starts() {
    let mut run = Run::new(settings(0, 2), RoundId(0)).expect("usable settings");
    assert_eq!(run.handle(RunEvent::Start, NOW), [RunEffect::Finished(RunStatus::Completed)]);
}

#[test]
fn a_run_waits_for_as_many_clients_as_a_round_needs_results() {
    let mut needs_four = settings(1, 5);
    needs_four.min_available_clients = 0;
    needs_four.participation.min_results = 4;
    let mut run = Run::new(needs_four, RoundId(0)).expect("usable settings");
    run.handle(RunEvent::Start, NOW);
    for client in 0..3 {
        assert_eq!(run.handle(RunEvent::Joined(ClientId(client)), NOW), []);
    }
    assert_eq!(run.handle(RunEvent::Joined(ClientId(2)), NOW), [], "the same client again is no fourth one");
    assert!(cohort(&run.handle(RunEvent::Joined(ClientId(3)), NOW)).is_some());
}

#[test]
fn stop_ends_a_run_at_once_where_no_round_is_open() {
    let mut pending = Run::new(settings(9, 2), RoundId(0)).expect("usable settings");
    assert_eq!(pending.handle(RunEvent::Stop, NOW), [RunEffect::Finished(RunStatus::Stopped)]);
    assert_eq!(pending.handle(RunEvent::Start, NOW), [], "what is over does not start");

    let (mut paused, effects) = started(settings(9, 2), 0);
    let (round, clients) = cohort(&effects).expect("first round");
    paused.handle(RunEvent::Pause, NOW);
    play(&mut paused, round, &clients);
    assert_eq!(paused.status(), RunStatus::Paused);
    assert_eq!(paused.handle(RunEvent::Stop, NOW), [RunEffect::Finished(RunStatus::Stopped)]);
    assert_eq!(paused.handle(RunEvent::Resume, NOW), []);
    assert_eq!((paused.status(), paused.done()), (RunStatus::Stopped, RoundId(1)));
}

#[test]
fn stop_in_the_last_round_completes_the_run() {
    let (mut run, effects) = started(settings(1, 2), 0);
    let (round, clients) = cohort(&effects).expect("first round");
    run.handle(RunEvent::Stop, NOW);
    assert_eq!(play(&mut run, round, &clients), [RunEffect::Finished(RunStatus::Completed)]);
}

#[test]
fn a_pause_leaves_the_open_round_alone_and_a_resume_finds_it_running() {
    let (mut run, effects) = started(settings(9, 2), 0);
    let (round, clients) = cohort(&effects).expect("first round");
    run.handle(RunEvent::Pause, NOW);
    assert_eq!(run.status(), RunStatus::Paused);
    let digest = Digest::of(b"x");
    let event = RoundEvent::Submitted { client: clients[0], round, digest };
    let effects = run.handle(RunEvent::Round(event), NOW);
    assert_eq!(effects, [RunEffect::Reply(clients[0], Verdict::Accepted)]);
    assert_eq!(run.handle(RunEvent::Resume, NOW), []);
    assert_eq!(run.status(), RunStatus::Running);
}

#[test]
fn a_failed_round_fails_the_run_and_leaves_the_last_good_one() {
    let mut hasty = settings(9, 2);
    hasty.participation.deadline_ms = 100;
    let (mut run, effects) = started(hasty, 4);
    assert!(effects.contains(&RunEffect::WakeAt(Timestamp(100))));
    let reason = FailureReason::TooFewResults { accepted: 0, needed: 1 };
    assert_eq!(tick(&mut run, 100), [RunEffect::Finished(RunStatus::Failed(reason))]);
    assert_eq!((run.status(), run.done()), (RunStatus::Failed(reason), RoundId(4)));
    assert_eq!(run.handle(RunEvent::Resume, Timestamp(101)), []);
    assert_eq!(tick(&mut run, 102), []);
    assert_eq!(run.tally(), Tally { dropped: 2, ..Tally::default() });
}

#[test]
fn an_update_of_the_round_before_is_late_and_does_not_count_in_this_one() {
    let (mut run, effects) = started(settings(9, 2), 0);
    let (first, clients) = cohort(&effects).expect("first round");
    let (second, _) = cohort(&play(&mut run, first, &clients)).expect("second round");
    let digest = Digest::of(b"stale");
    let event = RoundEvent::Submitted { client: clients[0], round: first, digest };
    assert_eq!(run.handle(RunEvent::Round(event), NOW), [RunEffect::Reply(clients[0], Verdict::Late)]);
    assert_eq!((second, run.tally()), (RoundId(2), Tally { late: 1, ..Tally::default() }));
}

#[test]
fn an_update_from_before_a_restart_is_answered() {
    let mut run = Run::new(settings(9, 2), RoundId(1)).expect("usable settings");
    let event = RoundEvent::Submitted { client: ClientId(3), round: RoundId(2), digest: Digest::of(b"x") };
    assert_eq!(run.handle(RunEvent::Round(event), NOW), [RunEffect::Reply(ClientId(3), Verdict::Late)]);
}

#[test]
fn cohorts_change_from_round_to_round_and_with_the_seed() {
    let cohorts = |seed| -> Vec<Vec<ClientId>> {
        let (mut run, mut effects) = started(RunSettings { seed, ..settings(8, 2) }, 0);
        let mut all = Vec::new();
        while let Some((round, clients)) = cohort(&effects) {
            effects = play(&mut run, round, &clients);
            all.push(clients);
        }
        all
    };
    let first = cohorts(7);
    assert_eq!(first.len(), 8);
    assert!(first.iter().any(|clients| *clients != first[0]), "eight equal draws out of six have a chance of 6^-7");
    assert_ne!(first, cohorts(8));
    assert_eq!(first, cohorts(7));
}

#[test]
fn who_is_drained_is_invited_to_no_further_round_but_may_finish_this_one() {
    let (mut run, effects) = started(settings(9, 4), 0);
    let (first, clients) = cohort(&effects).expect("first round");
    assert_eq!(run.handle(RunEvent::Drained(clients[0]), NOW), []);
    assert_eq!(run.round().expect("open").waiting().len(), 4);
    run.handle(RunEvent::Joined(ClientId(9)), NOW);
    let (_, second) = cohort(&play(&mut run, first, &clients)).expect("second round");
    assert_eq!(second, [ClientId(1), ClientId(2), ClientId(3), ClientId(9)]);
}

#[test]
fn a_run_waits_for_clients_when_too_many_have_left() {
    let (mut run, effects) = started(settings(9, 4), 0);
    let (first, clients) = cohort(&effects).expect("first round");
    run.handle(RunEvent::Left(clients[3]), NOW);
    assert_eq!(run.round().expect("open").waiting().len(), 3, "nobody waits for who is gone");
    assert_eq!(cohort(&play(&mut run, first, &clients)), None, "min-available-clients is 4");
    assert_eq!(run.status(), RunStatus::Pending);
    assert!(cohort(&run.handle(RunEvent::Joined(clients[3]), NOW)).is_some());
}

#[test]
fn a_server_step_that_cannot_be_done_fails_the_run() {
    let (mut run, effects) = started(settings(9, 2), 0);
    let (round, clients) = cohort(&effects).expect("first round");
    for client in clients {
        let event = RoundEvent::Submitted { client, round, digest: Digest::of(b"x") };
        run.handle(RunEvent::Round(event), NOW);
    }
    let failed = RunStatus::Failed(FailureReason::ServerStep);
    assert_eq!(run.handle(RunEvent::Round(RoundEvent::StepFailed), NOW), [RunEffect::Finished(failed)]);
    assert_eq!((run.status(), run.done()), (failed, RoundId(0)));
}
