//! What goes wrong, in plain words and with an exit code.

use std::net::TcpListener;

use crate::{
    program::{Outcome, Place, program},
    samples::{busy, model_json},
};

const RUN: &str = "num-rounds = 3\nlearning-rate = 0.1\nlora.r = 2\nmethod.name = 'fedavg'\n";

fn fails(arguments: &str, code: i32, evidence: &[&str]) {
    Outcome::of(&program(arguments).output().expect("the program can be started")).fails(code, evidence);
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let arguments = format!("status --insecure --server http://{address}");
    fails(&arguments, 6, &[&format!("cannot reach {address}"), "connection refused", "serve` running there"]);
}

#[test]
fn a_host_that_does_not_exist() {
    // `.invalid` is reserved to never exist (RFC 2606).
    let arguments = "status --server https://coordinator.invalid:8443 --identity folder";
    let place = Place::new(busy());
    place.write("folder/access-token", "x");
    let mut command = program(arguments);
    let outcome = Outcome::of(&command.current_dir(place.path("")).output().expect("the program can be started"));
    outcome.fails(5, &["folder/ca.pem"]);
    fails("status --insecure --server http://coordinator.invalid", 2, &["this machine only"]);
}

#[test]
fn an_identity_is_needed() {
    fails("status", 2, &["--identity (or FEDLORA_IDENTITY) is needed", "pki init"]);
    fails("status --identity no/such/folder", 5, &["no/such/folder", "no such folder"]);
}

#[test]
fn an_identity_without_its_files_names_the_missing_one() {
    let place = Place::new(busy());
    place.write("empty/note", "");
    let run = |folder: &str| {
        let mut command = program("status --identity");
        Outcome::of(&command.arg(place.path(folder)).output().expect("the program can be started"))
    };
    run("empty").fails(5, &["cannot read certificates from", "empty/ca.pem"]);
    place.write("wrong/ca.pem", "no certificate at all");
    run("wrong").fails(5, &["wrong/ca.pem holds no certificate"]);
}

#[test]
fn clear_text_needs_to_be_asked_for() {
    fails("status --server http://localhost:8443", 2, &["needs --insecure"]);
    fails("status --server https://localhost:8443 --insecure", 2, &["use http"]);
    fails("status --server http://192.0.2.1:8443 --insecure", 2, &["this machine only"]);
}

#[test]
fn a_wrong_command_line_is_a_wrong_configuration() {
    for arguments in ["statsu", "run start", "rounds show three", "tokens create --name a --ttl 1y", "export"] {
        let outcome = Outcome::of(&program(arguments).output().expect("the program can be started"));
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
    }
}

#[test]
fn what_does_not_exist_is_named() {
    let place = Place::new(busy());
    place.run("clients show nobody").fails(4, &["nobody"]);
    place.run("clients revoke 99").fails(4, &["99"]);
    place.run("rounds show 12").fails(4, &["no such round"]);
    place.run("tokens revoke 1234").fails(4, &["1234"]);
}

#[test]
fn a_run_with_a_wrong_configuration_is_not_even_asked_for() {
    let place = Place::new(busy());
    place.write("model.json", &model_json());
    place.run("run start run.toml --model model.json").fails(2, &["cannot read run.toml"]);
    place.write("run.toml", RUN);
    let start = |set: &str| place.run(&format!("run start run.toml --model model.json --set {set}"));
    start("lora.rank=2").fails(2, &["run.toml", "unknown key rank"]);
    start("modle.path=m").fails(2, &["run.toml", "unknown key modle; did you mean model?"]);
    start("method.name=fedevg").fails(2, &["fedevg", "fedavg"]);
    start("num-rounds").fails(2, &["expected key=value"]);
    assert_eq!(place.fake.calls(), [""; 0]);
}

#[test]
fn a_wrong_description_of_the_model_has_its_own_exit_code() {
    let place = Place::new(busy());
    place.write("run.toml", RUN);
    let start = || place.run("run start run.toml --model model.json");
    start().fails(3, &["cannot read model.json", "fedlora-client describe"]);
    place.write("model.json", "{}");
    start().fails(3, &["model.json", "base_model"]);
    place.write("model.json", &model_json().replace("\"d_in\": 4", "\"d_in\": 0"));
    start().fails(3, &["model.json", "a module has width 0"]);
    assert_eq!(place.fake.calls(), [""; 0]);
}

#[test]
fn a_run_starts_with_the_changes_of_the_command_line() {
    let place = Place::new(busy());
    place.write("run.toml", RUN);
    place.write("model.json", &model_json());
    let set = "--set lora.r=3 --set method.name=fedsvd --idempotency-key k1";
    let said = place.run(&format!("run start run.toml --model model.json {set}")).says();
    assert_eq!(place.fake.calls(), ["start fedsvd r=3 on tiny-bert once for k1"]);
    assert!(said.starts_with("run 2 is started\n") && said.contains("next: fedlora-coordinator rounds watch"));
}

#[test]
fn two_starts_have_two_keys_unless_one_is_given() {
    let place = Place::new(busy());
    place.write("run.toml", RUN);
    place.write("model.json", &model_json());
    for _ in 0..2 {
        place.run("run start run.toml --model model.json").says();
    }
    let calls = place.fake.calls();
    assert_ne!(calls[0], calls[1]);
}

#[test]
fn a_secret_goes_into_a_new_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(busy());
    let said = place.run("tokens create --name yelp --out yelp.token").says();
    assert!(!said.contains("fl1_secret") && said.contains("--token-file yelp.token"), "{said}");
    let path = place.path("yelp.token");
    assert_eq!(std::fs::read_to_string(&path).expect("it was written"), "fl1_secret\n");
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    place.run("tokens create --name yelp --out yelp.token").fails(5, &["yelp.token"]);
    assert_eq!(place.fake.calls().len(), 1, "no second token was made");
}

#[test]
fn a_refused_token_leaves_no_file() {
    let place = Place::new(busy());
    place.run_as("auditor", "tokens create --name yelp --out yelp.token").fails(7, &["auditor"]);
    assert!(!place.path("yelp.token").exists());
}

#[test]
fn a_failure_answers_machines_on_standard_output() {
    let place = Place::new(busy());
    let outcome = place.run("clients show nobody --format json");
    let envelope = outcome.json();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(4), ""));
    assert_eq!((&envelope["status"], &envelope["exit_code"]), (&"error".into(), &4.into()));
    assert!(envelope["error"].as_str().is_some_and(|words| words.contains("nobody")), "{envelope}");
    assert!(envelope.get("data").is_none(), "{envelope}");
}
