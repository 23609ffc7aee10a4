//! Models, data and partitions that do not fit are refused with code 3, by name, before anything is written.

use std::fs;

use crate::support::{Place, TINY_BERT, sentences};

/// The run is refused with this evidence, and leaves no directory.
#[track_caller]
fn refused(place: &Place, settings: &str, evidence: &[&str]) {
    place.sim(&format!("run job.toml --out run {settings}")).fails(3, evidence);
    assert!(!place.exists("run"), "{settings} left a run directory");
}

/// A job whose model is a copy that may be damaged.
fn with_own_model() -> Place {
    let place = Place::with_sentences();
    for entry in fs::read_dir(TINY_BERT).expect("the model is there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("named").to_string_lossy().into_owned();
        place.write(&format!("model/{name}"), fs::read(&path).expect("readable"));
    }
    place
}

#[test]
fn a_shard_that_was_cut_off_is_named() {
    let place = with_own_model();
    place.sim("run job.toml --out whole --set model.path=model").succeeds();
    let shard = "model/model-00002-of-00003.safetensors";
    let bytes = fs::read(place.path(shard)).expect("readable");
    for length in [0, 7, 500, bytes.len() / 2, bytes.len() - 1] {
        place.write(shard, &bytes[..length]);
        refused(&place, "--set model.path=model", &[shard, "not a complete safetensors file"]);
    }
}

#[test]
fn the_tokenizer_of_another_model_is_refused() {
    let place = with_own_model();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&place.read("model/tokenizer.json")).expect("JSON");
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let tokens = vocabulary.len();
    vocabulary.insert("zebra".to_owned(), tokens.into());
    place.write("model/tokenizer.json", tokenizer.to_string());
    let (found, expected) = (format!("{} tokens", tokens + 1), format!("{tokens} token embeddings"));
    refused(&place, "--set model.path=model", &["model/tokenizer.json", &found, &expected]);
}

#[test]
fn a_missing_model_is_named() {
    refused(&Place::with_sentences(), "--set model.path=nowhere", &["nowhere"]);
}

#[test]
fn target_modules_that_match_nothing_are_named_with_those_that_would() {
    refused(&Place::with_sentences(), "--set lora.target_modules=[\"qeury\"]", &["qeury", "query"]);
}

#[test]
fn a_test_label_that_training_lacks_is_named_with_its_line() {
    let place = Place::with_sentences();
    place.write("data/test.csv", "text,label\nthe cat,good\na dog,ugly\n");
    refused(&place, "", &["data/test.csv:3", "`ugly`"]);
}

#[test]
fn a_row_that_cannot_be_read_is_named_by_file_and_line() {
    let place = Place::with_sentences();
    let cases: [(&[u8], &str); 3] = [
        (b"text,label\nthe cat,good\na dog,bad,really\n", "expected 2 fields, found 3"),
        (b"text,label\nthe cat,good\n\"a dog,bad\n", "closing quote"),
        (b"text,label\nthe cat,good\na d\xffg,bad\n", "0xff"),
    ];
    for (content, problem) in cases {
        place.write("data/train.csv", content);
        refused(&place, "", &["data/train.csv:3", problem]);
    }
}

#[test]
fn an_empty_client_file_is_named() {
    let place = Place::with_sentences();
    place.write("data/a.csv", format!("text,label\n{}", sentences(10)));
    let settings = "--set data.format=csv --set data.partition.kind=files --set data.train-files=[\"a.csv\",\"b.csv\"]";
    for nothing in ["", "text,label\n"] {
        place.write("data/b.csv", nothing);
        refused(&place, &format!("{settings} --set data.partition.num-clients=2"), &["data/b.csv"]);
    }
}

#[test]
fn a_client_with_too_few_rows_is_named() {
    let place = Place::with_sentences();
    let rows = sentences(10).replace('\n', ",north\n");
    place.write("data/train.csv", format!("text,label,site\n{rows}the cat,good,south\n"));
    place.write("data/test.csv", format!("text,label,site\n{rows}"));
    let settings = "--set data.partition.kind=column --set data.group-column=site --set data.partition.num-clients=2";
    refused(&place, settings, &["client-1 (`south`) holds 1 rows", "at least 2"]);
}

#[test]
fn a_dirichlet_split_that_cannot_meet_its_minimum_is_refused() {
    let place = Place::with_sentences();
    let split = "--set data.partition.kind=dirichlet";
    let rows = "40 rows cannot give 3 clients 20 rows each";
    refused(&place, &format!("{split} --set data.partition.min-partition-size=20"), &[rows]);
    // Almost all of each of two labels goes to one client, so that the third of three gets nothing.
    refused(&place, &format!("{split} --set data.partition.alpha=1e-6"), &["1000 draws", "raise `alpha`"]);
}

#[test]
fn the_embedded_model_reads_nothing_but_the_embedded_digits() {
    let place = Place::with_sentences();
    place.sim("run job.toml --out run --set model.path=builtin:digits-vit").fails(2, &["model.path", "builtin:digits"]);
    assert!(!place.exists("run"));
}
