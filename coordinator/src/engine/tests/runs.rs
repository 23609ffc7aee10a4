//! Beginning, ending and restoring runs, and what operators read of them.

use fedlora_adapter::{ClientId, RoundId};

use super::support::{Rig, config, config_of, is_accepted, model};
use crate::{Answer, Command, Control, EngineError, RunId, config::RunConfig};

fn start(rig: &mut Rig, config: RunConfig, key: &str) -> Result<u64, EngineError> {
    let command = Command::StartRun { config: Box::new(config), model: Box::new(model()), key: key.to_owned() };
    rig.tell(command).map(|answer| match answer {
        Answer::Run(run) => run.run_id,
        other => panic!("expected a run, found {other:?}"),
    })
}

fn play(rig: &mut Rig, clients: u64) {
    (0..clients).for_each(|client| assert!(is_accepted(&rig.submit(client))));
    rig.step();
}

#[test]
fn one_key_starts_one_run_even_after_it_is_over() {
    let mut rig = Rig::new();
    let short = || config("num-rounds = 1\nmin-available-clients = 2");
    assert_eq!(start(&mut rig, short(), "a").expect("begun"), 1);
    assert_eq!(start(&mut rig, short(), "a").expect("the same"), 1);
    assert!(matches!(start(&mut rig, short(), "b"), Err(EngineError::RunIsLive(RunId(1)))));
    (0..2).for_each(|client| rig.connect(client));
    play(&mut rig, 2);
    rig.restart();
    assert_eq!(start(&mut rig, short(), "a").expect("the same"), 1);
    assert_eq!(start(&mut rig, short(), "b").expect("another"), 2);
    let runs = rig.engine.runs().expect("readable");
    let rows: Vec<_> = runs.iter().map(|run| (run.run_id, run.status.as_str(), run.rounds_done)).collect();
    assert_eq!(rows, [(2, "pending", 0), (1, "completed", 1)]);
}

#[test]
fn a_configuration_that_cannot_work_starts_nothing() {
    let mut rig = Rig::new();
    let mut pissa = config("num-rounds = 1");
    pissa.lora.init_lora_weights = fedlora_aggregation::Init::Pissa;
    assert!(matches!(start(&mut rig, pissa, ""), Err(EngineError::NeedsWeights)));
    let error = start(&mut rig, config("num-rounds = 1\nclients-per-round = 2\nmin-results = 3"), "");
    assert!(matches!(error, Err(EngineError::Config(_))), "{error:?}");
    assert!(rig.engine.runs().expect("readable").is_empty());
}

#[test]
fn control_needs_a_run_that_is_live() {
    let mut rig = Rig::new();
    let mut stop = |run| rig.tell(Command::Control { run, control: Control::Stop });
    assert!(matches!(stop(None), Err(EngineError::NoLiveRun)));
    assert!(matches!(stop(Some(RunId(4))), Err(EngineError::UnknownRun(RunId(4)))));
    rig.start(config("num-rounds = 1"));
    rig.tell(Command::Control { run: Some(RunId(1)), control: Control::Stop }).expect("stopped");
    let again = rig.tell(Command::Control { run: Some(RunId(1)), control: Control::Stop });
    assert!(matches!(again, Err(EngineError::RunIsOver(RunId(1)))));
    assert_eq!(rig.kinds(), ["run-started", "run-stopping", "run-stopped"]);
}

#[test]
fn pause_and_resume_are_told_once() {
    let mut rig = Rig::running("num-rounds = 2\nmin-available-clients = 2", 2);
    for control in [Control::Resume, Control::Pause, Control::Pause, Control::Resume, Control::Resume] {
        rig.tell(Command::Control { run: None, control }).expect("kept");
    }
    let kinds = rig.kinds();
    assert_eq!(kinds[kinds.len() - 2..], ["run-paused", "run-resumed"]);
}

#[test]
fn a_round_leaves_these_events() {
    let mut rig = Rig::running("num-rounds = 1\nmin-available-clients = 2", 2);
    play(&mut rig, 2);
    let expected = [
        "run-started",
        "client-joined",
        "client-joined",
        "round-opened",
        "update-accepted",
        "update-accepted",
        "round-closed",
        "round-aggregated",
        "round-published",
        "run-completed",
    ];
    assert_eq!(rig.kinds(), expected);
    let later = rig.engine.events(8, 1).expect("readable");
    assert_eq!((later.len(), later[0].number, later[0].kind.as_str()), (1, 9, "round-published"));
    let accepted = &rig.engine.events(4, 1).expect("readable")[0];
    assert_eq!((accepted.run_id, accepted.round, accepted.client_id), (1, 1, Some(0)));
}

#[test]
fn an_event_names_its_own_round_even_where_the_next_one_opens_at_once() {
    let mut rig = Rig::running("num-rounds = 2\nmin-available-clients = 2", 2);
    (0..2).for_each(|client| drop(rig.submit(client)));
    rig.step();
    let events = rig.engine.events(6, usize::MAX).expect("readable");
    let found: Vec<(&str, u64)> = events.iter().map(|event| (event.kind.as_str(), event.round)).collect();
    assert_eq!(found, [("round-closed", 1), ("round-aggregated", 1), ("round-published", 1), ("round-opened", 2)]);
}

#[test]
fn operators_read_rounds_metrics_and_checkpoints() {
    let mut rig = Rig::running("num-rounds = 2\nmin-available-clients = 2", 2);
    play(&mut rig, 2);
    let first = rig.engine.metrics(None, 0).expect("known");
    let [metrics] = &first[..] else { panic!("one round is published: {first:?}") };
    let summary = metrics.summary.as_ref().expect("filled in");
    assert_eq!((summary.accepted, summary.invited, summary.train_loss), (2, 2, Some(0.5)));
    let checkpoints = rig.engine.checkpoints(None).expect("known");
    assert_eq!(checkpoints.iter().map(|one| one.round).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(metrics.bytes_down, checkpoints[0].size_bytes * 2);
    assert!(metrics.bytes_up > 0 && metrics.update_norm > 0.0);
    assert!(rig.engine.metrics(None, 1).expect("known").is_empty());
    let rounds = rig.engine.rounds(Some(RunId(1)), 1).expect("known");
    assert_eq!((rounds.len(), rounds[0].round, rounds[0].phase.as_str()), (1, 2, "collecting"));
    assert_eq!(rig.engine.rounds(None, 0).expect("known").len(), 2);
    assert!(matches!(rig.engine.rounds(Some(RunId(u64::MAX)), 0), Err(EngineError::UnknownRun(_))));
    let absent = rig.engine.round_detail(None, Some(RoundId(u64::MAX)));
    assert!(matches!(absent, Err(EngineError::UnknownRound { .. })));
    let (adapter, options) = rig.engine.export(None, None).expect("published");
    assert_eq!((adapter.digest().to_hex(), options.base_model.as_str()), (summary.adapter.clone(), "toy"));
}

#[test]
fn the_training_loss_is_a_mean_by_weight() {
    let mut by_examples = config("num-rounds = 1\nmin-available-clients = 2");
    by_examples.weighting = fedlora_aggregation::Weighting::Examples;
    let mut rig = Rig::new();
    rig.start(by_examples);
    (0..2).for_each(|client| rig.connect(client));
    for (client, examples, train_loss) in [(0, 1, 4.0), (1, 3, 8.0)] {
        let update = crate::UpdateMeta { examples, train_loss: Some(train_loss), ..rig.update(client) };
        assert!(is_accepted(&rig.submit_this(update)));
    }
    rig.step();
    let metrics = rig.engine.metrics(None, 0).expect("known");
    assert_eq!(metrics[0].summary.as_ref().expect("filled in").train_loss, Some(7.0));
}

#[test]
fn a_run_goes_on_from_a_checkpoint_of_another() {
    let mut rig = Rig::running("num-rounds = 3\nmin-available-clients = 2", 2);
    (0..2).for_each(|_| play(&mut rig, 2));
    let restore = |round| Command::Restore { run: RunId(1), round: RoundId(round) };
    assert!(matches!(rig.tell(restore(1)), Err(EngineError::RunIsLive(_))));
    rig.tell(Command::Control { run: None, control: Control::Stop }).expect("kept");
    play(&mut rig, 2);
    assert!(matches!(rig.tell(restore(7)), Err(EngineError::NoCheckpoint { .. })));
    rig.tell(restore(1)).expect("begun");
    let round = rig.round();
    assert_eq!((round.run, round.plan.round), (RunId(2), RoundId(2)));
    let old = rig.engine.checkpoints(Some(RunId(1))).expect("known");
    assert_eq!(round.blob.to_hex(), old[1].blob);
    play(&mut rig, 2);
    let new = rig.engine.checkpoints(Some(RunId(2))).expect("known");
    assert_eq!((new[1].round, &new[1].blob), (2, &old[2].blob), "the same updates give the same adapter");
}

#[test]
fn a_restored_last_round_is_complete() {
    let mut rig = Rig::running("num-rounds = 1\nmin-available-clients = 2", 2);
    play(&mut rig, 2);
    rig.tell(Command::Restore { run: RunId(1), round: RoundId(1) }).expect("begun");
    assert_eq!(rig.engine.run_summary(RunId(2)).expect("known").status, "completed");
    assert!(rig.engine.view().run.is_none());
}

#[test]
fn every_method_starts_with_the_first_adapter_of_the_simulator() {
    for method in fedlora_aggregation::METHODS {
        let mut rig = Rig::new();
        rig.start(config_of(method.name, "num-rounds = 1"));
        let (first, _) = rig.engine.export(None, Some(RoundId(0))).expect("there");
        let init = method.init.unwrap_or(fedlora_aggregation::Init::Default);
        let seed = fedlora_adapter::Seed(5);
        let expected = fedlora_aggregation::initial(first.spec().clone(), init, seed, &|_| None).expect("usable");
        assert_eq!(first, expected, "{}", method.name);
    }
}

#[test]
fn who_is_there_when_a_run_starts_takes_part() {
    let mut rig = Rig::new();
    (0..3).for_each(|client| rig.connect(client));
    rig.tell(Command::Drain(ClientId(1))).expect("kept");
    rig.start(config("num-rounds = 1\nmin-available-clients = 2"));
    rig.restart();
    let detail = rig.engine.round_detail(None, None).expect("a round");
    assert_eq!(detail.clients.iter().map(|client| client.client_id).collect::<Vec<_>>(), [0, 2]);
}
