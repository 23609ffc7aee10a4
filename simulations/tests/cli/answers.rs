//! What the program says, to people and to machines.

use serde_json::Value;

use crate::support::Place;

#[test]
fn help_lists_every_command_and_every_command_its_options() {
    let place = Place::new();
    let commands: [(&str, &[&str]); 10] = [
        (
            "",
            &[
                "quickstart",
                "run",
                "compare",
                "sweep",
                "report",
                "config",
                "methods",
                "devices",
                "--format",
                "--threads",
            ],
        ),
        ("quickstart", &["--out", "--seeds", "--resume"]),
        ("run", &["CONFIG.toml", "--set", "--seed", "--out", "--resume", "--device"]),
        ("compare", &["CONFIG.toml", "--methods", "--seeds", "--set", "--out", "--resume"]),
        ("sweep", &["CONFIG.toml", "--grid", "--seeds", "--set", "--out", "--resume"]),
        ("pretrain", &["CONFIG.toml", "--set", "--seed", "--out", "--device"]),
        ("report", &["DIRECTORIES", "--out"]),
        ("config", &["check", "show"]),
        ("config check", &["CONFIG.toml", "--set"]),
        ("methods", &["--format"]),
    ];
    for (command, words) in commands {
        let help = place.sim(&format!("{command} --help")).succeeds().stdout;
        for word in words {
            assert!(help.contains(word), "{command} --help does not mention {word}:\n{help}");
        }
    }
}

#[test]
fn methods_come_as_an_envelope_that_lists_what_the_text_lists() {
    let place = Place::new();
    let envelope = place.sim("methods --format json").succeeds().json();
    assert_eq!((&envelope["schema_version"], &envelope["status"]), (&Value::from("1"), &Value::from("ok")));
    assert_eq!(envelope["exit_code"], 0);
    let methods = envelope["data"]["methods"].as_array().expect("a list");
    let text = place.sim("methods").succeeds().stdout;
    assert_eq!(text.lines().count(), 2 * methods.len(), "{text}");
    for method in methods {
        let name = method["name"].as_str().expect("a name");
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in {text}");
    }
}

#[test]
fn devices_are_listed_and_one_that_cannot_be_had_is_refused_with_what_to_do() {
    let place = Place::with_digits();
    let envelope = place.sim("devices --format json").succeeds().json();
    assert_eq!(envelope["data"]["devices"][0]["name"], "cpu");
    let auto = envelope["data"]["auto"].as_str().expect("a name");
    let text = place.sim("devices").succeeds().stdout;
    assert!(text.contains(&format!("auto is {auto}")), "{text}");
    place.sim("run job.toml --out run --device tpu").fails(2, &["unknown device tpu", "auto, cpu, wgpu:N or cuda:N"]);
    place.sim("run job.toml --out run --device wgpu:77").fails(2, &["wgpu:77", "choose"]);
}

#[test]
fn a_shown_configuration_is_a_valid_configuration_and_shows_as_itself() {
    let place = Place::with_digits();
    let shown = place.sim("config show job.toml --seed 7 --set lora.r=3").succeeds().stdout;
    assert!(shown.contains("seed = 7") && shown.contains("r = 3"), "{shown}");
    place.write("shown.toml", &shown);
    assert_eq!(place.sim("config check shown.toml").succeeds().stdout, "shown.toml is valid\n");
    assert_eq!(place.sim("config show shown.toml").succeeds().stdout, shown);
}

#[test]
fn a_run_answers_machines_with_exactly_one_object() {
    let place = Place::with_sentences();
    let outcome = place.sim("run job.toml --out run --format json").succeeds();
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:?}");
    let envelope = outcome.json();
    let keys: Vec<&str> = envelope.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["data", "exit_code", "schema_version", "status"]);
    let written: Value = serde_json::from_str(&place.read("run/metrics_summary.json")).expect("JSON");
    assert_eq!((&envelope["data"]["summary"], &envelope["data"]["directory"]), (&written, &Value::from("run")));
}

#[test]
fn an_error_answers_machines_on_standard_output() {
    let place = Place::with_sentences();
    for (arguments, code, evidence) in [
        ("run job.toml --out run --set lora.rank=2", 2, "rank"),
        ("run job.toml --out run --set data.path=elsewhere.csv", 3, "elsewhere.csv"),
        ("run job.toml --out job.toml/run", 5, "job.toml/run"),
    ] {
        let outcome = place.sim(&format!("{arguments} --format json"));
        let envelope = outcome.json();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(code), ""), "{arguments}");
        assert_eq!((&envelope["status"], &envelope["exit_code"]), (&Value::from("error"), &Value::from(code)));
        assert!(envelope["error"].as_str().is_some_and(|message| message.contains(evidence)), "{envelope}");
        assert!(envelope.get("data").is_none(), "{envelope}");
    }
}

#[test]
fn a_run_into_a_pipe_prints_no_progress_bar() {
    let place = Place::with_sentences();
    // `succeeds` has checked that standard error, where bars go, is empty.
    let answer = place.sim("run job.toml --out run").succeeds().stdout;
    assert!(!answer.contains(['\r', '\u{1b}']), "{answer:?}");
    assert!(answer.contains("run/report.html") && answer.contains("finished:completed"), "{answer}");
}
