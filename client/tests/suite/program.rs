//! The program itself: commands that need no coordinator, and what its exit codes say.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use fedlora_adapter::ModelDescription;
use serde_json::Value;

const TINY_BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_bert");
const TINY_LLAMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/decoders/llama");
/// The word `w37` ends its texts.
const TINY_MISTRAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/decoders/mistral");
const TINY_VIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_vit");

struct Place(tempfile::TempDir);

impl Place {
    /// A folder with `job.toml` over rows of the words that the model knows.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary directory"));
        let subjects = ["the cat", "a dog", "the film", "dogs", "a mat"];
        let row = |index: usize| {
            let (subject, very) = (subjects[index % 5], "very ".repeat(index / 5));
            format!("{subject} {very}good !,good\n{subject} {very}bad .,bad\n")
        };
        place.write("rows.csv", &format!("text,label\n{}", (0..20).map(row).collect::<String>()));
        place.write(
            "job.toml",
            &format!(
                "num-rounds = 3\nlocal-steps = 12\nbatch-size = 8\nlearning-rate = 0.02\n[method]\nname = 'fedavg'\n\
                 [lora]\nr = 2\n[model]\npath = '{TINY_BERT}'\n[data]\npath = 'rows.csv'\ntest-fraction = 0.25\n"
            ),
        );
        place.write(
            "client.toml",
            &format!(
                "server = 'http://127.0.0.1:1'\ninsecure = true\n[model]\npath = '{TINY_BERT}'\n\
                 [data]\npath = 'rows.csv'\n"
            ),
        );
        place
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("writable");
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedlora-client"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path()).env_remove("RUST_LOG");
        command.output().expect("the program can be started")
    }

    /// The data of a JSON answer.
    #[track_caller]
    fn answer(&self, arguments: &str) -> Value {
        let output = self.run(&format!("{arguments} --format json"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut envelope: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!((envelope["status"].as_str(), output.status.code()), (Some("ok"), Some(0)), "{output:?}");
        envelope["data"].take()
    }

    /// The program fails with this code and words.
    #[track_caller]
    fn fails(&self, arguments: &str, code: i32, words: &[&str]) {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
    }
}

#[test]
fn a_model_is_described_as_the_coordinator_reads_it() {
    let place = Place::new();
    place.answer("describe job.toml --out model.json");
    let json = fs::read(place.path("model.json")).expect("written");
    let description: ModelDescription = serde_json::from_slice(&json).expect("a description");
    assert_eq!(description.labels, ["bad", "good"]);
    assert_eq!(description.base_model, TINY_BERT);
    assert!(
        description.modules.keys().all(|name| name.as_str().ends_with("query") || name.as_str().ends_with("value"))
    );
    assert_eq!(description.head["classifier.bias"], [2]);
    place.answer("describe job.toml --out other.json --labels bad,good,mixed --set data.path=nowhere.csv");
    let json = fs::read(place.path("other.json")).expect("written");
    let other: ModelDescription = serde_json::from_slice(&json).expect("a description");
    assert_eq!((other.labels.len(), other.digest), (3, description.digest), "labels can be named without any data");
    assert!(description.first_values.is_empty());
    place.answer("describe job.toml --out dora.json --set lora.use_dora=true");
    let json = fs::read(place.path("dora.json")).expect("written");
    let dora: ModelDescription = serde_json::from_slice(&json).expect("a description");
    assert_eq!(dora.head, description.head, "magnitudes belong to the adapter");
    assert!(
        dora.first_values.values().all(|lengths| lengths.len() == 24 && lengths.iter().all(|&length| length > 0.0))
    );
    assert_eq!(dora.first_values.len(), description.modules.len());
}

#[test]
fn a_site_trains_alone_and_tests_what_it_trained() {
    let place = Place::new();
    let trained = place.answer("train-local job.toml --out adapter");
    assert!(place.path("adapter/adapter_config.json").exists());
    assert_eq!(trained["steps"], 12);
    let tested = place.answer("evaluate job.toml --adapter adapter");
    assert_eq!(tested["evaluation"], trained["evaluation"]);
    assert_eq!(tested["evaluation"]["examples"], 10);
    let again = place.answer("train-local job.toml --out again --threads 1");
    assert_eq!(again["evaluation"], trained["evaluation"]);
    let bytes = |folder: &str| fs::read(place.path(folder).join("adapter_model.safetensors")).expect("written");
    assert!(bytes("again") == bytes("adapter"), "equal seeds give equal bytes");
}

#[test]
fn a_language_model_is_described_without_labels_and_tested_by_its_perplexity() {
    let place = Place::new();
    let words: Vec<String> = (0..201).map(|place| format!("w{} ", 4 + place * 7 % 60)).collect();
    place.write("words.txt", &words.concat());
    let site = format!("--set model.path={TINY_LLAMA} --set data.path=words.txt --set data.max-length=9");
    let settings = format!("{site} --set lora.target_modules=all-linear");
    place.answer(&format!("describe job.toml --out model.json {settings}"));
    let json = fs::read(place.path("model.json")).expect("written");
    let description: ModelDescription = serde_json::from_slice(&json).expect("a description");
    assert!(description.labels.is_empty() && description.head.is_empty());
    assert_eq!(description.task_type.as_deref(), Some("CAUSAL_LM"));

    let trained = place.answer(&format!("train-local job.toml --out adapter {settings}"));
    let tested = place.answer(&format!("evaluate job.toml --adapter adapter {settings}"));
    assert_eq!(tested["evaluation"], trained["evaluation"]);
    // 200 words behind the first one in 25 windows, of which a quarter is tested.
    let loss = tested["evaluation"]["loss"].as_f64().expect("a number");
    assert_eq!(tested["evaluation"]["perplexity"].as_f64(), Some(loss.exp()));
    let output = place.run(&format!("evaluate job.toml --adapter adapter {settings}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("tested     6 examples (48 tokens): perplexity "), "{text}");
    assert!(!text.contains("F1"), "{text}");
    let output = place.run(&format!("preflight --config client.toml {site}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("25 rows to train on, labels none"), "{text}");
}

#[test]
fn a_language_model_is_tested_by_what_it_writes_where_the_file_asks_for_it() {
    let place = Place::new();
    let row = |index: usize| format!("{{\"prompt\": \"w{} w20\", \"response\": \"w7\"}}\n", 4 + index % 3);
    place.write("rows.jsonl", &(0..24).map(row).collect::<String>());
    let settings = format!(
        "--set model.path={TINY_MISTRAL} --set data.path=rows.jsonl --set data.max-length=9 \
         --set lora.target_modules=all-linear --set exact-match.max-new-tokens=4"
    );
    let trained = place.answer(&format!("train-local job.toml --out adapter {settings}"));
    let tested = place.answer(&format!("evaluate job.toml --adapter adapter {settings}"));
    assert_eq!(tested["evaluation"], trained["evaluation"]);
    assert!(tested["evaluation"]["exact_match"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{tested}");
    let output = place.run(&format!("evaluate job.toml --adapter adapter {settings}"));
    assert!(String::from_utf8_lossy(&output.stdout).contains(", exact match "), "{output:?}");
    place.fails("train-local job.toml --out other --set exact-match.max-rows=3", 3, &["cannot write text"]);
    assert!(!place.path("other").exists(), "nothing is trained that cannot be tested");
}

#[test]
fn a_model_of_images_is_described_trained_and_tested_on_pictures() {
    let place = Place::new();
    // Pictures of optdigits: the upper half is dark for a 3, the lower one for a 5.
    let picture = |row: usize| {
        let level = |pixel: usize| if (pixel < 32) == row.is_multiple_of(2) { "16," } else { "0," };
        format!("{}{}\n", (0..64).map(level).collect::<String>(), if row.is_multiple_of(2) { 3 } else { 5 })
    };
    place.write("digits.tra", &(0..40).map(picture).collect::<String>());
    let site = format!("--set model.path={TINY_VIT} --set data.path=digits.tra");
    let settings = format!("{site} --set lora.target_modules=all-linear");
    place.answer(&format!("describe job.toml --out model.json {settings}"));
    let json = fs::read(place.path("model.json")).expect("written");
    let description: ModelDescription = serde_json::from_slice(&json).expect("a description");
    assert_eq!((description.labels, description.task_type), (vec!["3".to_owned(), "5".to_owned()], None));
    let trained = place.answer(&format!("train-local job.toml --out adapter {settings}"));
    assert_eq!((&trained["examples"], &trained["left_out"]), (&30.into(), &0.into()));
    let tested = place.answer(&format!("evaluate job.toml --adapter adapter {settings}"));
    assert_eq!(tested["evaluation"], trained["evaluation"]);
    let output = place.run(&format!("preflight --config client.toml {site}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("40 rows to train on, labels 3, 5"), "{text}");
}

#[test]
fn data_that_the_model_does_not_read_are_refused_in_plain_words() {
    let place = Place::new();
    place.write("digits.tra", "");
    let words = ["the model reads images, but data.path holds texts"];
    place.fails(&format!("describe job.toml --out m.json --set model.path={TINY_VIT}"), 3, &words);
    let words = ["the model reads texts, but data.path holds images"];
    place.fails("describe job.toml --out m.json --set data.path=digits.tra", 3, &words);
    place.fails(
        &format!("describe job.toml --out m.json --set model.path={TINY_LLAMA} --set data.max-length=65"),
        3,
        &["max-length is 65"],
    );
    let output = place.run(&format!("preflight --config client.toml --set model.path={TINY_VIT}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("FAIL  data") && text.contains("the model reads images"), "{text}");
}

#[test]
fn mistakes_are_named_and_have_their_exit_codes() {
    let place = Place::new();
    place.fails("join --config nowhere.toml", 2, &["cannot read nowhere.toml"]);
    place.fails("join --config client.toml --set state-dri=x", 2, &["unknown key state-dri; did you mean state-dir?"]);
    place.fails("join --config client.toml --set server=http://10.0.0.1:1", 2, &["loopback"]);
    place.fails("join --config client.toml", 5, &["identity.json", "fedlora-client enroll"]);
    place.fails("describe job.toml --out m.json --set model.path=nowhere", 3, &["nowhere"]);
    place.fails("describe job.toml --out m.json --set lora.target_modules=qeury", 3, &["qeury", "query"]);
    place.fails("train-local job.toml --out a --labels bad", 3, &["rows.csv:2", "no label `good`"]);
    place.fails("evaluate job.toml --adapter nowhere", 5, &["nowhere"]);
    place.fails("enroll --server https://a:1 --token-file t --identity i", 2, &["--ca"]);
    place.write("token", "fl1_x");
    place.fails(
        "enroll --server http://127.0.0.1:1 --token-file token --identity i --insecure",
        4,
        &["cannot connect to http://127.0.0.1:1", "nobody listens there"],
    );
}

#[test]
fn preflight_says_what_is_missing_and_what_to_do() {
    let place = Place::new();
    let output = place.run("preflight --config client.toml");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    for words in ["ok    model", "ok    data", "FAIL  identity", "next: run fedlora-client enroll", "not ready to join"]
    {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

#[test]
fn shells_and_manuals_are_served() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.answer(&format!("completions {shell}"))["script"].as_str().expect("text").contains("preflight"));
    }
    place.answer("man --out pages");
    for page in ["fedlora-client.1", "fedlora-client-join.1", "fedlora-client-enroll.1"] {
        assert!(fs::read_to_string(place.path("pages").join(page)).expect("written").contains(".TH"), "{page}");
    }
}

#[test]
fn devices_are_listed_and_one_that_cannot_be_had_is_refused_with_what_to_do() {
    let place = Place::new();
    let answer = place.answer("devices");
    let devices = answer["devices"].as_array().expect("a list");
    assert_eq!((&devices[0]["name"], &devices[0]["kind"]), (&Value::from("cpu"), &Value::from("cpu")));
    let autos: Vec<&Value> = devices.iter().filter(|device| device["auto"] == true).collect();
    assert_eq!(autos.len(), 1);
    assert_eq!(autos[0]["name"], answer["auto"]);
    let text = String::from_utf8_lossy(&place.run("devices").stdout).into_owned();
    for device in devices {
        let name = device["name"].as_str().expect("a name");
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in {text}");
    }
    let train = "train-local job.toml --out out --device";
    place.fails(&format!("{train} tpu"), 2, &["unknown device tpu", "auto, cpu, wgpu:N or cuda:N"]);
    place.fails(&format!("{train} wgpu:77"), 2, &["wgpu:77", "choose"]);
}
