//! A base that was trained by `pretrain` is one that `run` takes.

use serde_json::Value;

use crate::support::Place;

const MODELS: [(&str, &str, &str); 2] = [
    (
        "vit",
        "hidden_size = 12\nnum_hidden_layers = 1\nnum_attention_heads = 2\nintermediate_size = 16\nimage_size = 8\n\
         num_channels = 1\npatch_size = 4",
        "q_proj",
    ),
    ("mlp-mixer", "embed_dim = 12\nnum_blocks = 1\nimg_size = 8\nin_chans = 1\npatch_size = 4", "mlp_tokens.fc1"),
];

const RUN: &str = r#"
num-rounds = 1
batch-size = 8
learning-rate = 0.001
[method]
name = "fedavg"
[lora]
r = 2
[model]
path = "base"
[data]
path = "data"
group-column = "sites"
[data.partition]
kind = "column"
personal-test-fraction = 0.2
"#;

fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

/// Pictures of 6 x 6 pixels whose upper (label 0) or lower half (label 1) is light, held by two sites.
fn with_pictures(model: (&str, &str, &str)) -> Place {
    let place = Place::new();
    for (part, count) in [("train", 80_u32), ("t10k", 20)] {
        let level = |picture: u32, pixel: u32| {
            let light = (pixel < 18) == picture.is_multiple_of(2);
            if light { 255 - (picture * 7 + pixel * 5) % 60 } else { (picture * 11 + pixel * 3) % 60 }
        };
        let pixels: Vec<u8> =
            (0..count).flat_map(|picture| (0..36).map(move |pixel| level(picture, pixel) as u8)).collect();
        let labels: Vec<u8> = (0..count).map(|picture| (picture % 2) as u8).collect();
        let sites: Vec<u8> = (0..count).map(|picture| (picture / 2 % 2) as u8).collect();
        place.write(&format!("data/{part}-images-idx3-ubyte"), idx(&[count, 6, 6], &pixels));
        place.write(&format!("data/{part}-labels-idx1-ubyte"), idx(&[count], &labels));
        place.write(&format!("data/{part}-sites-idx1-ubyte"), idx(&[count], &sites));
    }
    let (kind, sizes, target) = model;
    place.write(
        "base.toml",
        format!("epochs = 8\nbatch-size = 8\nlearning-rate = 0.01\n[model]\nmodel_type = \"{kind}\"\n{sizes}\n[data]\npath = \"data\"\n"),
    );
    place.write("job.toml", RUN.replace("r = 2", &format!("r = 2\ntarget_modules = [\"{target}\"]")));
    place
}

#[test]
fn what_pretrain_writes_is_what_run_starts_from() {
    for model in MODELS {
        let place = with_pictures(model);
        let found = place.sim("pretrain base.toml --out base --format json").succeeds().json();
        let accuracy = found["data"]["test_accuracy"].as_f64().expect("a number");
        // Halves are told apart by any average of an upper patch: only a broken training misses one in ten.
        assert!(accuracy > 0.9, "{found}");
        place.sim("run job.toml --out run").succeeds();
        let summary: Value = serde_json::from_str(&place.read("run/metrics_summary.json")).expect("JSON");
        assert_eq!(summary["accepted"], 2, "both sites sent their update: {summary}");
        let config = place.read("run/adapters/global/adapter_config.json");
        assert!(config.contains(model.2) && config.contains("\"task_type\": null"), "{config}");
        place.sim("pretrain base.toml --out other --threads 1").succeeds();
        assert!(place.tree("base") == place.tree("other"), "{}: other bytes on one thread", model.0);
    }
}

#[test]
fn a_base_is_not_written_over_and_a_wrong_one_is_refused_by_key() {
    let place = with_pictures(MODELS[0]);
    place.write("base/notes.txt", "mine");
    place.sim("pretrain base.toml --out base").fails(5, &["base is not empty"]);
    let refused = |settings: &str, code: i32, evidence: &[&str]| {
        place.sim(&format!("pretrain base.toml --out new {settings}")).fails(code, evidence);
        assert!(!place.exists("new"), "{settings}");
    };
    refused("--set model.hiden_size=8", 2, &["unknown key hiden_size; did you mean hidden_size?"]);
    refused("--set model.model_type=resnet", 2, &["model.model_type", "\"vit\" or \"mlp-mixer\""]);
    refused("--set model.patch_size=3", 3, &["patch_size is 3, expected a divisor of image_size"]);
    refused("--set epochs=0", 2, &["epochs"]);
    place.write("words.csv", "text,label\na,0\nb,1\na,0\nb,1\n");
    refused("--set data.path=words.csv --set data.test-fraction=0.5", 3, &["reads images", "holds texts"]);
}

#[test]
fn texts_for_a_model_of_images_are_refused_in_plain_words() {
    let place = with_pictures(MODELS[1]);
    place.sim("pretrain base.toml --out base --set epochs=1").succeeds();
    place.write("words.csv", "text,label,sites\na,0,x\na,0,x\nb,1,x\nb,1,x\na,0,y\na,0,y\nb,1,y\nb,1,y\n");
    place
        .sim("run job.toml --out run --set data.path=words.csv --set data.test-fraction=0.5")
        .fails(3, &["the model reads images, but data.path holds texts"]);
    assert!(!place.exists("run"));
}
