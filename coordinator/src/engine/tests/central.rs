//! Noise by the coordinator: what it books, when, and the limit over all runs.

use fedlora_adapter::RoundId;
use fedlora_privacy::{Accountant, Origin, PldAccountant, SampledGaussian};

use super::support::{GRACE_MS, Rig, SharedStore, config, is_accepted, model};
use crate::{Answer, Command, Engine, EngineError, EngineSettings, PrivacyLimit, RunId, Timestamp, config::RunConfig};

const DELTA: f64 = 1e-3;

fn central(rounds: u64, more: &str) -> RunConfig {
    config(&format!(
        "num-rounds = {rounds}\nmin-available-clients = 3\nclients-per-round = 3\n\
         central-privacy = {{ clipping-norm = 0.5, target-delta = {DELTA}, noise-multiplier = 2.0{more} }}"
    ))
}

fn running(config: RunConfig) -> Rig {
    let mut rig = Rig::new();
    rig.start(config);
    (0..3).for_each(|client| rig.connect(client));
    rig
}

fn round(rig: &mut Rig) {
    (0..3).for_each(|client| assert!(is_accepted(&rig.submit(client))));
    rig.step();
}

/// `epsilon` of so many rounds, from the accountant itself.
fn cost(rounds: u64) -> f64 {
    let history = [SampledGaussian::new(2.0, 1.0, rounds).expect("valid")];
    PldAccountant::new().epsilon(&history, DELTA).expect("valid")
}

fn spent(rig: &mut Rig) -> Option<f64> {
    rig.engine.run_summary(RunId(1)).expect("a run").privacy.expect("private").epsilon_pld
}

#[test]
fn every_published_round_is_booked_with_it_and_losses_are_not_told() {
    let mut rig = running(central(2, ""));
    assert_eq!(spent(&mut rig), Some(0.0));
    round(&mut rig);
    assert_eq!(spent(&mut rig), Some(cost(1)));
    let published = rig.engine.round_detail(None, Some(RoundId(1))).expect("a round").summary.expect("filled in");
    assert!(published.train_loss.is_none() && published.phase == "published");
    rig.restart();
    assert_eq!(spent(&mut rig), Some(cost(1)), "a restart forgets nothing");
    (0..3).for_each(|client| rig.connect(client));
    round(&mut rig);
    assert_eq!(spent(&mut rig), Some(cost(2)));
    let plain = Rig::running("num-rounds = 1\nmin-available-clients = 3", 3).engine.run_summary(RunId(1));
    assert!(plain.expect("a run").privacy.is_none());
}

#[test]
fn a_step_done_again_after_a_crash_has_other_noise_and_is_booked_once() {
    let mut rig = running(central(1, ""));
    (0..3).for_each(|client| drop(rig.submit(client)));
    let first = rig.steps.pop().expect("due").perform();
    rig.restart();
    let second = rig.steps.last().expect("due again").perform();
    let digest = |outcome: &crate::StepOutcome| outcome.result.as_ref().expect("combined").digest;
    assert_ne!(digest(&first), digest(&second), "noise of the operating system is never the same");
    rig.tell(Command::Step(Box::new(second))).expect("published");
    rig.tell(Command::Step(Box::new(first))).expect("an outcome from before changes nothing");
    assert_eq!(spent(&mut rig), Some(cost(1)));
}

#[test]
fn an_adaptive_bound_goes_on_where_it_was() {
    let mut rig = running(central(3, ", clipping = 'adaptive'"));
    round(&mut rig);
    let bound =
        |rig: &mut Rig| rig.engine.run_summary(RunId(1)).expect("a run").privacy.expect("private").clipping_norm;
    let moved = bound(&mut rig);
    assert!((moved - 0.5).abs() > 1e-6, "noise alone moves it");
    rig.restart();
    (0..3).for_each(|client| rig.connect(client));
    round(&mut rig);
    let release = rig.engine.release(RoundId(2)).expect("readable").expect("noise was added");
    assert_eq!(release.clip_bound.value().to_bits(), moved.to_bits());
}

#[test]
fn the_limit_holds_over_all_runs_and_plain_runs_are_refused() {
    let limit = PrivacyLimit { epsilon_limit: cost(3) * 1.001, delta: DELTA };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings =
        EngineSettings { reconnect_grace_ms: GRACE_MS, noise: Origin::OperatingSystem, privacy_limit: Some(limit) };
    let blobs = crate::Blobs::open(folder.path()).expect("a writable folder");
    let mut rig = Rig::new();
    rig.engine =
        Engine::new(Box::new(SharedStore::default()), blobs.clone(), settings, Timestamp(0)).expect("an empty state");
    rig.blobs = blobs;
    let start = |rig: &mut Rig, config: RunConfig| {
        let (config, model) = (Box::new(config), Box::new(model()));
        rig.tell(Command::StartRun { config, model, key: String::new() })
    };
    let refused = start(&mut rig, central(4, "")).expect_err("four rounds are too many");
    assert!(matches!(refused, EngineError::OverPrivacyLimit { .. }), "{refused}");
    let refused = start(&mut rig, config("num-rounds = 1")).expect_err("no noise at all");
    assert!(matches!(refused, EngineError::NotPrivate), "{refused}");
    assert!(matches!(start(&mut rig, central(2, "")).expect("two fit"), Answer::Run(_)));
    (0..3).for_each(|client| rig.connect(client));
    round(&mut rig);
    round(&mut rig);
    let refused = start(&mut rig, central(2, "")).expect_err("two more do not fit");
    assert!(refused.to_string().starts_with("BUDGET_EXHAUSTED"), "{refused}");
    let restored = rig.tell(Command::Restore { run: RunId(1), round: RoundId(0) }).expect_err("nor does a repetition");
    assert!(matches!(restored, EngineError::OverPrivacyLimit { .. }), "{restored}");
    start(&mut rig, central(1, "")).expect("one more fits");
}

#[test]
fn secret_samples_of_clients_are_for_simulations() {
    let mut rig = Rig::new();
    let (config, model) = (Box::new(central(1, ", client-sampling = 'poisson'")), Box::new(model()));
    let error = rig.tell(Command::StartRun { config, model, key: String::new() }).expect_err("refused").to_string();
    assert!(error.contains("client-sampling"), "{error}");
}
