//! Who may call what.

use crate::{
    program::{Outcome, Place},
    samples::busy,
};

const LOOKS: [&str; 11] = [
    "status",
    "run list",
    "rounds list",
    "rounds show",
    "clients list",
    "clients show amazon",
    "tokens list",
    "log",
    "metrics",
    "checkpoint list",
    "export --out adapter",
];

const CHANGES: [&str; 8] = [
    "run stop",
    "run pause",
    "run resume",
    "clients revoke amazon",
    "clients drain amazon",
    "tokens create --name yelp",
    "tokens revoke 5f0c2a7e",
    "checkpoint restore --run 2 --round 1",
];

#[test]
fn an_auditor_sees_everything_and_changes_nothing() {
    let place = Place::new(busy());
    for look in LOOKS {
        place.run_as("auditor", look).says();
    }
    for change in CHANGES {
        place.run_as("auditor", change).fails(7, &["the role auditor may not change anything", "--role operator"]);
    }
    assert_eq!(place.fake.calls(), [""; 0]);
}

#[test]
fn an_operator_changes_things() {
    let place = Place::new(busy());
    for change in CHANGES {
        place.run_as("operator", change).says();
    }
    let expected = [
        "Stop None",
        "Pause None",
        "Resume None",
        "revoke client-0 at 1795543200000",
        "expel client-0",
        "set drained client-0",
        "drain client-0",
        "create token yelp \"\" client 86400000 ms None",
        "revoke token 5f0c2a7e",
        "restore run 2 round 1",
    ];
    assert_eq!(place.fake.calls(), expected);
}

#[test]
fn a_client_and_a_stranger_may_not_even_look() {
    let place = Place::new(busy());
    for command in LOOKS.into_iter().chain(CHANGES).chain(["rounds watch"]) {
        place.run_as("client", command).fails(7, &["the role client may not"]);
        place.run_as("nobody", command).fails(7, &["this call needs an access token"]);
    }
    assert_eq!(place.fake.calls(), [""; 0]);
}

#[test]
fn machines_get_the_reason_code() {
    let place = Place::new(busy());
    let mut command = place.command_as("auditor", "run stop --format json");
    let outcome = Outcome::of(&command.output().expect("the program can be started"));
    let envelope = outcome.json();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(7), ""));
    assert_eq!((&envelope["status"], &envelope["exit_code"]), (&"error".into(), &7.into()));
    assert_eq!(envelope["reason"], "WRONG_ROLE");
}

#[test]
fn nobody_revokes_the_identity_with_which_they_call() {
    let place = Place::new(busy());
    place.run("clients revoke ops").fails(4, &["the identity that is calling"]);
    place.run("clients revoke 7").fails(4, &["the identity that is calling"]);
    assert_eq!(place.fake.calls(), [""; 0]);
}
