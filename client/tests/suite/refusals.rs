//! A coordinator that says why it will not work ends the session with its words; everything else is tried again.

use fedlora_adapter::Digest;
use fedlora_client::MemoryStore;
use fedlora_learner::{Job, LocalOutcome, Trainer};
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    coordinator::Coordinator,
    support::{Client, adapter},
};

fn with_reason(code: Code, message: &str, reason: &str) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("fedlora-reason", reason.parse().expect("ascii"));
    Status::with_metadata(code, message, metadata)
}

#[test]
fn a_refusal_ends_the_session_in_plain_words() {
    let cases = [
        (Status::failed_precondition("this coordinator speaks protocol 2, the client 1"), "speaks protocol 2"),
        (with_reason(Code::PermissionDenied, "revoked", "REVOKED"), "ask the operator why the identity was revoked"),
        (with_reason(Code::Unauthenticated, "expired", "CERTIFICATE_EXPIRED"), "check this machine's clock"),
        (Status::unauthenticated("who are you?"), "enrol with a new token"),
        (with_reason(Code::Aborted, "another session", "superseded"), "another process took part"),
    ];
    for (status, words) in cases {
        let coordinator = Coordinator::start(adapter(4, 1), 1);
        coordinator.change(|book| book.refusals.push_back(status));
        let place = tempfile::tempdir().expect("a temporary directory");
        let error = Client::start(&coordinator, place.path()).play_to(&adapter(4, 2)).expect_err("refused");
        assert!(error.contains(words), "{words:?} is not in {error}");
        coordinator.change(|book| assert!(book.updates.is_empty()));
    }
}

#[test]
fn trouble_that_may_pass_is_waited_out() {
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    coordinator.change(|book| {
        let trouble = [Status::unavailable("draining"), Status::resource_exhausted("later"), Status::internal("oops")];
        book.refusals.extend(trouble);
    });
    let place = tempfile::tempdir().expect("a temporary directory");
    Client::start(&coordinator, place.path()).play_to(&adapter(4, 2)).expect("the run completes");
    coordinator.change(|book| assert_eq!((book.tokens.len(), book.updates.len()), (4, 1)));
}

#[test]
fn a_round_whose_adapter_is_gone_is_not_asked_for_again() {
    let coordinator = Coordinator::start(adapter(4, 1), 2);
    let handle = coordinator.handle();
    coordinator.change(|book| book.lost_blobs.push_back(with_reason(Code::NotFound, "unknown", "UNKNOWN_BLOB")));
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut client = Client::start(&coordinator, place.path());
    let playing = std::thread::spawn(move || client.play_to(&adapter(4, 2)));
    handle.wait(|book| book.declines.iter().any(|decline| decline.round == 1));
    handle.close_round();
    playing.join().expect("no panic").expect("the run completes");
    coordinator.change(|book| {
        assert_eq!(book.downloads.len(), 2, "one for each round");
        assert_eq!(book.updates.iter().map(|(header, _)| header.round).collect::<Vec<_>>(), [2]);
    });
}

#[test]
fn a_run_with_another_base_model_is_refused_with_both_digests() {
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    let place = tempfile::tempdir().expect("a temporary directory");
    let own = Digest::of(b"another base model");
    let error = Client::with_base(&coordinator, place.path(), own).play_to(&adapter(4, 2)).expect_err("another model");
    for words in [own.to_string(), crate::support::base_model().to_string(), "describe".to_owned()] {
        assert!(error.contains(&words), "{words:?} is not in {error}");
    }
}

/// Cannot train.
struct Broken;

/// Why not.
#[derive(Debug, thiserror::Error)]
#[error("rows.csv:3: the federation has no label `ugly`")]
struct BadRow;

impl Trainer for Broken {
    type Error = BadRow;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, BadRow>> {
        jobs.iter().map(|_| Err(BadRow)).collect()
    }
}

#[test]
fn a_client_that_cannot_train_declines_with_the_reason_and_ends() {
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    let place = tempfile::tempdir().expect("a temporary directory");
    let outcome = Client::start(&coordinator, place.path()).play(Broken, MemoryStore::default());
    let error = outcome.map(|_| ()).expect_err("training failed");
    assert!(error.contains("rows.csv:3"), "{error}");
    coordinator.handle().wait(|book| !book.declines.is_empty());
    coordinator.change(|book| {
        assert_eq!((book.declines[0].round, book.declines[0].reason.as_str()), (1, BadRow.to_string().as_str()));
    });
}

#[test]
fn a_session_that_another_process_takes_over_is_not_taken_back() {
    let coordinator = Coordinator::start(adapter(4, 1), 1).by_hand();
    let (handle, place) = (coordinator.handle(), tempfile::tempdir().expect("a temporary directory"));
    let mut client = Client::start(&coordinator, place.path());
    let taking = std::thread::spawn(move || {
        handle.wait(|book| !book.updates.is_empty());
        handle.end_sessions(&with_reason(Code::Aborted, "a younger session", "superseded"));
    });
    let error = client.play_to(&adapter(4, 2)).expect_err("superseded");
    taking.join().expect("no panic");
    assert!(error.contains("an identity of its own"), "{error}");
    coordinator.change(|book| assert_eq!(book.hellos.len(), 1));
}
