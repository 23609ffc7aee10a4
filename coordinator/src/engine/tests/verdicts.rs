//! Verdicts: what counts, what does not, and that the answer stays the same.

use fedlora_adapter::{Digest, RoundId};
use fedlora_aggregation::Weighting;

use super::support::{Rig, config, is_accepted, upload};
use crate::{Answer, Command, EngineError, ReasonCode, RunId, UpdateMeta, Verdict, config::RunConfig};

const KEYS: &str = "num-rounds = 3\nmin-available-clients = 3";

/// With a run of three clients, two of which have been accepted.
fn two_of_three() -> (Rig, UpdateMeta) {
    let mut rig = Rig::running(KEYS, 3);
    let first = rig.update(0);
    assert!(is_accepted(&rig.submit_this(first)) && is_accepted(&rig.submit(1)));
    (rig, first)
}

fn code(rig: &mut Rig, update: UpdateMeta) -> (Verdict, Option<ReasonCode>) {
    let before = rig.kinds().len();
    let receipt = rig.submit_this(update);
    if !matches!(receipt.verdict, Verdict::Accepted | Verdict::Rejected | Verdict::Late) {
        assert_eq!(rig.kinds().len(), before, "nothing happened");
    }
    (receipt.verdict, receipt.reason)
}

#[test]
fn a_repeated_update_gets_the_same_answer_before_and_after_restart_close_and_publication() {
    let (mut rig, first) = two_of_three();
    let other = upload(&rig.blobs, &rig.engine.view().run.expect("live").spec, &rig.round(), 0, 2.0).expect("written");
    for stage in 0..4 {
        match stage {
            1 => rig.restart(),
            2 => assert!(is_accepted(&rig.submit(2))),
            3 => rig.step(),
            _ => {}
        }
        assert_eq!(code(&mut rig, first), (Verdict::Duplicate, None), "stage {stage}");
        assert_eq!(code(&mut rig, other), (Verdict::Conflict, Some(ReasonCode::AlreadySubmitted)), "stage {stage}");
    }
    rig.restart();
    assert_eq!(code(&mut rig, first), (Verdict::Duplicate, None));
    assert_eq!(rig.counted(RunId(1), 1), [0, 1, 2].into());
}

#[test]
fn other_rounds_runs_and_strangers_do_not_count() {
    let (mut rig, first) = two_of_three();
    let stranger = rig.update(7);
    assert_eq!(code(&mut rig, stranger), (Verdict::NotInvited, Some(ReasonCode::NotInvited)));
    let future = UpdateMeta { round: RoundId(2), ..rig.update(2) };
    assert_eq!(code(&mut rig, future), (Verdict::Late, Some(ReasonCode::FutureRound)));
    let foreign = UpdateMeta { run: RunId(9), ..rig.update(2) };
    assert_eq!(code(&mut rig, foreign), (Verdict::Late, Some(ReasonCode::UnknownRun)));
    let third = rig.update(2);
    assert!(is_accepted(&rig.submit_this(third)));
    rig.step();
    assert_eq!(rig.round().plan.round, RoundId(2));
    let stale = UpdateMeta { client: stranger.client, ..first };
    assert_eq!(code(&mut rig, stale), (Verdict::Late, Some(ReasonCode::StaleRound)));
    assert_eq!(rig.kinds().iter().filter(|kind| *kind == "update-late").count(), 1);
    assert_eq!(code(&mut rig, stale), (Verdict::Late, Some(ReasonCode::StaleRound)));
    assert_eq!(rig.kinds().iter().filter(|kind| *kind == "update-late").count(), 1, "once per client and round");
}

#[test]
fn an_update_for_another_adapter_or_base_or_without_weight_is_rejected_and_a_right_one_may_follow() {
    let mut rig = Rig::new();
    rig.start(RunConfig { weighting: Weighting::Examples, ..config(KEYS) });
    (0..3).for_each(|client| rig.connect(client));
    let right = rig.update(0);
    for (wrong, expected) in [
        (UpdateMeta { spec: Digest::of(b"other"), ..right }, ReasonCode::WrongSpec),
        (UpdateMeta { base: Digest::of(b"other"), ..right }, ReasonCode::WrongBase),
        (UpdateMeta { train_loss: Some(f64::NAN), ..right }, ReasonCode::BadMeta),
        (UpdateMeta { examples: 0, ..right }, ReasonCode::BadMeta),
    ] {
        assert_eq!(code(&mut rig, wrong), (Verdict::Rejected, Some(expected)));
    }
    assert_eq!(rig.kinds().iter().filter(|kind| *kind == "update-rejected").count(), 1, "the first one is told");
    assert!(is_accepted(&rig.submit_this(right)));
}

#[test]
fn a_refused_update_is_remembered_with_its_reason() {
    let (mut rig, _) = two_of_three();
    let bad = rig.update(2);
    let refuse = Command::Refuse(bad, ReasonCode::NotFinite, "value 3 is not finite".to_owned());
    let Ok(Answer::Receipt(receipt)) = rig.tell(refuse) else { panic!("a receipt was expected") };
    assert_eq!((receipt.verdict, receipt.reason), (Verdict::Rejected, Some(ReasonCode::NotFinite)));
    rig.restart();
    let again = rig.engine.receipt(bad.client, bad.run, bad.round, bad.blob).expect("readable");
    assert_eq!(again, Some(receipt));
    rig.step();
    assert_eq!(rig.counted(RunId(1), 1), [0, 1].into(), "everyone has answered: the round goes on without it");
}

#[test]
fn a_refusal_cannot_take_back_what_was_accepted() {
    let (mut rig, first) = two_of_three();
    let refuse = Command::Refuse(first, ReasonCode::TooFar, String::new());
    let Ok(Answer::Receipt(receipt)) = rig.tell(refuse) else { panic!("a receipt was expected") };
    assert_eq!(receipt.verdict, Verdict::Rejected);
    assert_eq!(code(&mut rig, first), (Verdict::Duplicate, None));
}

#[test]
fn an_update_without_its_file_is_an_error_of_the_caller_and_changes_nothing() {
    let (mut rig, _) = two_of_three();
    let update = UpdateMeta { blob: Digest::of(b"nowhere"), ..rig.update(2) };
    let before = rig.kinds();
    assert!(matches!(rig.tell(Command::Submit(update)), Err(EngineError::MissingUpdate { .. })));
    assert_eq!(rig.kinds(), before);
    assert!(is_accepted(&rig.submit(2)));
}

#[test]
fn nothing_live_is_no_trouble() {
    let mut rig = Rig::running("num-rounds = 1\nmin-available-clients = 1", 1);
    let first = rig.update(0);
    rig.submit_this(first);
    rig.step();
    assert!(rig.engine.view().run.is_none());
    assert_eq!(code(&mut rig, first), (Verdict::Duplicate, None));
    let late = UpdateMeta { round: RoundId(2), ..first };
    assert_eq!(code(&mut rig, late), (Verdict::Late, Some(ReasonCode::UnknownRun)));
    rig.connect(4);
    assert_eq!(rig.engine.view().connected, 2);
}
