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

/// Forty rows that ask for one of five answers.
fn questions(place: &Place) -> String {
    let row = |index: usize| {
        let word = 4 + index % 5;
        format!("{{\"question\": \"w{word} w20\", \"answer\": \"w{} w{}\"}}\n", word + 30, word + 40)
    };
    place.write("rows.jsonl", (0..40).map(row).collect::<String>());
    "--set data.format=auto --set data.path=rows.jsonl --set data.partition.kind=iid --set data.partition.num-clients=2 \
     --set exact-match.answer=whole-string --set exact-match.max-new-tokens=8"
        .to_owned()
}

#[test]
fn a_language_model_is_asked_and_learns_to_answer() {
    let place = place();
    let settings = format!("{} --set learning-rate=0.005 --set local-steps=40 --set num-rounds=6", questions(&place));
    let outcome = place.sim(&format!("run job.toml --out run {settings}")).succeeds();
    assert!(outcome.stdout.contains("last exact") && outcome.stdout.contains("perplexity"), "{}", outcome.stdout);
    let rounds = place.read("run/round_metrics.jsonl");
    let share = |line: &str, which: &str| {
        let round: Value = serde_json::from_str(line).expect("JSON");
        round["evaluations"][which]["exact_match"].as_f64()
    };
    let lines: Vec<&str> = rounds.lines().collect();
    // Of 60 words nobody guesses two and then ends. What was learnt is said, and only said if writing stops at the token that
    // ends a response in training, which tokenizer_config.json alone names.
    assert_eq!(share(lines[0], "global"), Some(0.0));
    for which in ["global", "personal_own", "personal_global"] {
        assert_eq!(share(lines[6], which), Some(1.0), "{which}: {rounds}");
    }
    let summary = json(&place, "run/metrics_summary.json");
    assert_eq!(summary["exact_match"]["global"]["last"].as_f64(), Some(1.0));
    assert!(
        place
            .read("run/rounds.csv")
            .starts_with("round,global_accuracy,global_macro_f1,global_loss,global_perplexity,global_exact_match,")
    );
    assert!(place.exists("run/plots/exact_match.svg") && place.read("run/config.toml").contains("[exact-match]"));
    let again = place.sim(&format!("run job.toml --out again --threads 1 {settings}"));
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(place.read("again/metrics_summary.json"), place.read("run/metrics_summary.json"));
}

#[test]
fn questions_that_cannot_be_put_are_refused_before_anything_is_written() {
    let place = place();
    let settings = questions(&place);
    let run = |settings: &str| place.sim(&format!("run job.toml --out out {settings}"));
    run("--set exact-match.max-rows=3").fails(3, &["exact-match needs prompts with responses"]);
    run(&format!("{settings} --set exact-match.max-new-tokens=0")).fails(3, &["exact-match.max-new-tokens is 0"]);
    run(&format!("{settings} --set exact-match.answers=1")).fails(2, &["unknown key answers; did you mean answer?"]);
    let place = Place::with_sentences();
    place.sim("run job.toml --out out --set exact-match.max-rows=3").fails(3, &["cannot write text"]);
    assert!(!place.exists("out"), "nothing was written");
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
