//! Runs of a causal language model: a tiny Llama on a play whose speakers are clients, and on prompts with responses.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{link, support::Place};

/// A Llama of two layers and 64 words, `w4` to `w63` besides the special ones.
const TINY_LLAMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/decoders/llama");

const JOB: &str = r#"
num-rounds = 3
local-steps = 12
batch-size = 4
learning-rate = 0.02
[method]
name = "fedavg"
[lora]
r = 4
target_modules = "all-linear"
[model]
path = "model"
[data]
format = "plays"
path = "play.txt"
max-length = 9
test-fraction = 0.2
[data.partition]
kind = "column"
min-partition-size = 2
personal-test-fraction = 0.2
"#;

/// Three speakers, each of whom counts in steps of its own.
fn play() -> String {
    let speech = |(speaker, step): (&str, usize)| {
        let word = |place: usize| format!("w{}", 4 + place * step % 60);
        let lines: Vec<String> =
            (0..12).map(|line| (0..8).map(|at| word(8 * line + at)).collect::<Vec<_>>().join(" ")).collect();
        format!("{speaker}:\n{}\n\n", lines.join("\n"))
    };
    [("ROMEO", 1), ("JULIET", 2), ("NURSE", 3), ("ROMEO", 1)].map(speech).concat()
}

/// A directory with `job.toml`, the play and the model, which names the word that ends a response.
fn place() -> Place {
    let place = Place::new();
    place.write("job.toml", JOB);
    place.write("play.txt", play());
    for entry in fs::read_dir(TINY_LLAMA).expect("the golden model is there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("files have names").to_string_lossy().into_owned();
        if !name.starts_with("reference") {
            place.write(&format!("model/{name}"), fs::read(&path).expect("readable"));
        }
    }
    place.write("model/tokenizer_config.json", r#"{"eos_token": "</s>"}"#);
    place
}

fn json(place: &Place, name: impl AsRef<Path>) -> Value {
    serde_json::from_str(&place.read(&name.as_ref().display().to_string())).expect("JSON")
}

#[test]
fn speakers_learn_to_predict_their_lines_and_reports_speak_of_perplexity() {
    let place = place();
    let outcome = place.sim("run job.toml --out run").succeeds();
    assert!(outcome.stdout.contains("perplexity") && !outcome.stdout.contains("F1"), "{}", outcome.stdout);
    let rounds = place.read("run/round_metrics.jsonl");
    let rounds: Vec<Value> = rounds.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let global = |round: usize| &rounds[round]["evaluations"]["global"];
    let (before, after) = (global(0)["perplexity"].as_f64(), global(3)["perplexity"].as_f64());
    // Better than to guess among the 60 words of the play.
    assert!(before > Some(60.0) && after < Some(60.0), "{before:?} before and {after:?} after");
    assert_eq!(global(0)["perplexity"].as_f64(), global(0)["loss"].as_f64().map(f64::exp));
    assert!(global(0).get("macro_f1").is_none() && global(0)["tokens"].as_u64() > global(0)["examples"].as_u64());
    let summary = json(&place, "run/metrics_summary.json");
    assert_eq!(summary["perplexity"]["global"]["last"].as_f64(), after);
    assert_eq!(json(&place, "run/adapters/global/adapter_config.json")["task_type"], "CAUSAL_LM");
    assert!(place.read("run/report.html").contains("<h2>Perplexity</h2>") && place.exists("run/plots/perplexity.svg"));
}

#[test]
fn both_links_leave_the_same_bytes_of_a_language_model() {
    for method in ["fedavg", "fedsa-lora"] {
        link::links_agree(&place(), &format!("--set method.name={method} --set cohort-size=2"));
    }
}

#[test]
fn a_policy_for_heads_changes_nothing_where_there_is_none() {
    let place = place();
    let digest = |head: &str| {
        place.sim(&format!("run job.toml --out {head} --set method.head={head}")).succeeds();
        let summary = json(&place, format!("{head}/metrics_summary.json"));
        assert!(summary["evaluations"]["global"].is_object(), "{head}: there is a global model");
        summary["adapter_digest"].clone()
    };
    let [frozen, shared, personal] = ["frozen", "shared", "personal"].map(digest);
    assert!(frozen == shared && shared == personal);
}

#[test]
fn prompts_and_responses_train_and_rows_without_room_are_told() {
    let place = place();
    let row =
        |index: usize| format!("{{\"question\": \"w{} w{}\", \"answer\": \"w{}\"}}\n", 4 + index, 5 + index, 6 + index);
    let long = format!("{{\"question\": \"{}\", \"answer\": \"w4\"}}\n", "w5 ".repeat(20));
    place.write("rows.jsonl", (0..20).map(row).collect::<String>() + &long);
    let settings = "--set data.format=auto --set data.path=rows.jsonl --set data.partition.kind=iid \
                    --set data.partition.num-clients=3 --set evaluate-every=3";
    let outcome = place.sim(&format!("run job.toml --out run {settings}"));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stderr, "warning: rows left out: 1; prompts leave no room for a response in 9 tokens\n");
    // Of 20 rows four are held out; each predicts its answer and the end.
    let global = &json(&place, "run/metrics_summary.json")["evaluations"]["global"];
    assert_eq!((&global["examples"], &global["tokens"]), (&Value::from(4), &Value::from(8)));
}

#[test]
fn what_makes_no_sense_for_a_language_model_is_refused_with_a_reason() {
    let place = place();
    let run = |settings: &str| place.sim(&format!("run job.toml --out out {settings}"));
    run("--set data.partition.kind=dirichlet").fails(3, &["divides rows by their labels", "`column` or `iid`"]);
    run("--set data.label-column=label").fails(3, &["`label-column` makes no sense for a causal language model"]);
    run("--set data.max-length=65").fails(3, &["max-length is 65, the model was made for at most 64 tokens"]);
    run("--set data.min-characters=9000").fails(3, &["no speaker of", "has 9000 characters"]);
    run("--set lora.target_modules=query").fails(3, &["query", "q_proj"]);
    assert!(!place.exists("out"), "nothing was written");
}
