//! Differential privacy from outside: a site's own ledger says what its data may cost, whatever a coordinator asks for.

mod clinics;
mod killed;
mod patients;

use std::fs;

use serde_json::{Value, json};

use super::site::{program, succeed};
use clinics::{Ask, Clinic, Federation, NOISE, STEPS};

const AMAZON: Clinic = Clinic { name: "amazon", examples: 32, limit: Some(8.0) };
const YELP: Clinic = Clinic { name: "yelp", examples: 48, limit: Some(8.0) };

/// The ledger holds as many rounds, all of them finished.
#[track_caller]
fn has_rounds(ledger: &Value, rounds: u64) {
    assert_eq!((&ledger["reservations"], &ledger["commits"]), (&json!(rounds), &json!(rounds)), "{ledger}");
    assert_eq!(ledger["steps"], rounds * u64::from(STEPS), "{ledger}");
    let (epsilon, limit) = (ledger["epsilon"].as_f64().expect("a number"), ledger["limit"].as_f64().expect("a number"));
    assert!(epsilon > 0.0 && epsilon <= limit, "{ledger}");
}

/// Nothing was ever charged.
#[track_caller]
fn has_nothing(federation: &Federation, name: &str) {
    for ledger in federation.ledgers("show", name) {
        assert_eq!((&ledger["reservations"], &ledger["epsilon"]), (&json!(0), &json!(0.0)), "{ledger}");
    }
}

#[test]
fn every_round_is_in_the_books_of_every_site_and_the_coordinator_learns_no_size_and_no_loss() {
    const ROUNDS: u64 = 3;
    let federation = Federation::new(&[AMAZON, YELP]);
    federation.start(&Ask { clients: 2, ..Ask::rounds(ROUNDS) });
    let clients = [AMAZON, YELP].map(|clinic| federation.join(clinic.name));
    for client in clients {
        client.ends_with(0);
    }
    federation.site.wait_for("completed");
    for clinic in [AMAZON, YELP] {
        let ledger = federation.ledger(clinic.name);
        has_rounds(&ledger, ROUNDS);
        assert_eq!((&ledger["units"], &ledger["protected"]), (&json!(clinic.examples), &json!(true)), "{ledger}");
        let (epsilon, cost) = (ledger["epsilon"].as_f64().expect("a number"), federation.cost(clinic, ROUNDS));
        assert!((epsilon / cost - 1.0).abs() < 1e-9, "the ledger has {epsilon}, the calculator {cost}");
        let verified = federation.ledgers("verify", clinic.name);
        assert_eq!(verified[0]["holds"], true, "{verified:?}");
        // Opened, and two lines for each round.
        assert_eq!(verified[0]["lines"], 1 + 2 * ROUNDS, "{verified:?}");
    }
    for round in 1..=ROUNDS {
        let round = &federation.site.operator(&["rounds", "show", &round.to_string()])["round"];
        assert_eq!((&round["train_loss"], &round["accepted"]), (&Value::Null, &json!(2)), "{round}");
        for client in round["clients"].as_array().expect("a list") {
            assert_eq!((&client["examples"], &client["train_loss"]), (&json!(1), &Value::Null), "{client}");
        }
    }
    federation.tells_nothing();
}

#[test]
fn an_exhausted_budget_stops_the_client_whichever_run_or_coordinator_asks() {
    let federation = Federation::new(&[AMAZON]);
    let clinic = Clinic { limit: Some(federation.limit(AMAZON, 2)), ..AMAZON };
    federation.configure(clinic, &federation);
    federation.start(&Ask::rounds(5));
    federation.join(clinic.name).stops_with("BUDGET_EXHAUSTED");
    assert_eq!(federation.site.wait_for("failed")["rounds_done"], 2);
    federation.tells_nothing();
    let spent = federation.ledger(clinic.name);
    has_rounds(&spent, 2);

    federation.start(&Ask::rounds(1));
    federation.join(clinic.name).stops_with("BUDGET_EXHAUSTED");
    assert_eq!(federation.site.wait_for("failed")["rounds_done"], 0);
    assert_eq!(federation.ledger(clinic.name), spent);

    // Another coordinator with another authority knows nothing of all that; the data's ledger does.
    let elsewhere = Federation::new(&[clinic]);
    federation.configure(clinic, &elsewhere);
    elsewhere.start(&Ask::rounds(1));
    federation.join(clinic.name).stops_with("BUDGET_EXHAUSTED");
    assert_eq!(elsewhere.site.wait_for("failed")["rounds_done"], 0);
    assert_eq!(federation.ledger(clinic.name), spent);
}

#[test]
fn a_limit_is_raised_by_a_person_and_by_no_file() {
    let federation = Federation::new(&[AMAZON]);
    let with_limit = |rounds| Clinic { limit: Some(federation.limit(AMAZON, rounds)), ..AMAZON };
    federation.configure(with_limit(1), &federation);
    federation.start(&Ask::rounds(1));
    federation.join(AMAZON.name).ends_with(0);
    federation.configure(with_limit(2), &federation);
    federation.start(&Ask::rounds(1));
    federation.join(AMAZON.name).stops_with("LIMIT_RAISED");
    federation.site.wait_for("failed");
    federation.tells_nothing();
    let ledger = federation.ledger(AMAZON.name);
    has_rounds(&ledger, 1);
    let data = ledger["data"].as_str().expect("a name");
    let limit = with_limit(2).limit.expect("it has one").to_string();
    let raise = ["ledger", "raise", "--config", "amazon.toml", "--data", data, "--limit", &limit];
    let mut command = program("fedlora-client");
    succeed(federation.site.within(command.args(raise).args(["--operator", "data protection officer"])));
    federation.start(&Ask::rounds(1));
    federation.join(AMAZON.name).ends_with(0);
    has_rounds(&federation.ledger(AMAZON.name), 2);
}

#[test]
fn private_and_plain_training_are_not_mixed_up() {
    let open = Clinic { limit: None, ..YELP };
    let federation = Federation::new(&[AMAZON, open]);
    federation.start(&Ask { noise: None, ..Ask::rounds(1) });
    federation.join(AMAZON.name).stops_with("NOT_PRIVATE");
    assert_eq!(federation.site.wait_for("failed")["rounds_done"], 0);
    has_nothing(&federation, AMAZON.name);
    federation.start(&Ask { noise: Some(format!("noise-multiplier = {NOISE:?}\nunit = 'user'")), ..Ask::rounds(1) });
    federation.join(AMAZON.name).stops_with("OTHER_UNIT");
    assert_eq!(federation.site.wait_for("failed")["rounds_done"], 0);
    has_nothing(&federation, AMAZON.name);
    federation.start(&Ask::rounds(1));
    federation.join(open.name).stops_with("NO_BUDGET");
    assert_eq!(federation.site.wait_for("failed")["rounds_done"], 0);
    assert!(!federation.site.path("state-yelp/ledgers").exists(), "nobody asked for a ledger");
    let (code, said) = federation.ledger_fails("show", open.name);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("epsilon-limit and delta"), "{said}");
}

#[test]
fn a_plan_that_protects_nobody_is_refused_before_any_training() {
    let federation = Federation::new(&[AMAZON]);
    for (local_steps, noise) in [
        (STEPS, "noise-multiplier = 0.01".to_owned()),
        (STEPS, "target-epsilon = 1000.0".to_owned()),
        (1_000_000_000, format!("noise-multiplier = {NOISE:?}")),
        (u32::MAX, "noise-multiplier = 0.5".to_owned()),
    ] {
        println!("{local_steps} steps, {noise}");
        federation.start(&Ask { local_steps, noise: Some(noise), ..Ask::rounds(1) });
        federation.join(AMAZON.name).stops_with("BUDGET_EXHAUSTED");
        assert_eq!(federation.site.wait_for("failed")["rounds_done"], 0);
        has_nothing(&federation, AMAZON.name);
    }
    federation.tells_nothing();
    federation.start(&Ask::rounds(1));
    federation.join(AMAZON.name).ends_with(0);
    has_rounds(&federation.ledger(AMAZON.name), 1);
}

#[test]
fn a_ledger_with_a_flipped_bit_stops_the_client_and_names_the_line() {
    let federation = Federation::new(&[AMAZON]);
    federation.start(&Ask::rounds(2));
    federation.join(AMAZON.name).ends_with(0);
    let path = federation.site.path(federation.ledger(AMAZON.name)["path"].as_str().expect("a path"));
    let written = fs::read(&path).expect("it is there");
    let mut changed = written.clone();
    let second_line = written.iter().position(|byte| *byte == b'\n').expect("it has lines") + 1;
    changed[second_line + 20] ^= 1;
    fs::write(&path, &changed).expect("it can be written");
    for command in ["verify", "show"] {
        let (code, said) = federation.ledger_fails(command, AMAZON.name);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("line 2 of ") && said.contains("was changed"), "{said}");
    }
    federation.start(&Ask::rounds(1));
    federation.join(AMAZON.name).stops_with("LEDGER_UNUSABLE");
    assert_eq!(federation.site.wait_for("failed")["rounds_done"], 0);
    federation.tells_nothing();
    assert!(fs::read(&path).expect("it is there") == changed, "nobody repairs what was changed");
    fs::write(&path, &written).expect("it can be written");
    federation.start(&Ask::rounds(1));
    federation.join(AMAZON.name).ends_with(0);
    has_rounds(&federation.ledger(AMAZON.name), 3);
}
