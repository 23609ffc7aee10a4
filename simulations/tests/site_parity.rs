//! A site that has only its own file trains on exactly the rows that the simulator, which has all files, gives the same
//! client, and comes to the same adapter.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use fedlora_adapter::{ClientId, Digest, RoundId, RoundPlan, Seed};
use fedlora_client::{RunInfo, SharedRows, Site, SiteConfig, SiteTrainer, Terms};
use fedlora_learner::{DataConfig, Job, LoadedData, LocalTrainer, Trainer, Watch, data::Record, device};
use fedlora_simulations::{
    config::{self, Config},
    experiment::Material,
};

const TINY_BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_bert");
const PRESET: &str = include_str!("../configs/sentences-minilm.toml");
const TINY_LLAMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/decoders/llama");
const TINY_VIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_vit");
const PICTURES: &str = include_str!("../configs/digit-sources-vit.toml");
/// Two sources of digits, in the order of their clients.
const DIGITS: [&str; 2] = ["optdigits.tra", "semeion.data"];
/// The three sources, in the order of their clients.
const FILES: [&str; 3] = ["amazon_cells_labelled.txt", "imdb_labelled.txt", "yelp_labelled.txt"];

/// Rows of the words that the model knows; every source has other rows, and another share of the labels.
fn write(folder: &Path) {
    let subjects = ["the cat", "a dog", "the film", "dogs", "a mat"];
    for (source, file) in FILES.into_iter().enumerate() {
        let row = |index: usize| {
            let (subject, very) = (subjects[(index + source) % 5], "very ".repeat(index / 5 + source));
            let label = usize::from(index.is_multiple_of(source + 2));
            format!("{subject} {very}{}  \t{label}\n", if label == 1 { "good !" } else { "bad ." })
        };
        fs::write(folder.join(file), (0..30 + 7 * source).map(row).collect::<String>()).expect("writable");
    }
}

/// Two digits of each source, in its own format and size.
fn write_digits(folder: &Path) {
    let optdigits = |row: usize| {
        let level = |pixel: usize| format!("{},", (pixel * (row + 3) + 8 * (row % 2)) % 17);
        format!("{}{}\n", (0..64).map(level).collect::<String>(), row % 2)
    };
    let semeion = |row: usize| {
        let bit = |pixel: usize| if (pixel / (3 + row % 2)).is_multiple_of(2 + row % 3) { "1 " } else { "0 " };
        let mark = |digit: usize| if digit == row % 2 { "1 " } else { "0 " };
        format!("{}{}\n", (0..256).map(bit).collect::<String>(), (0..10).map(mark).collect::<String>())
    };
    fs::write(folder.join(DIGITS[0]), (0..40).map(optdigits).collect::<String>()).expect("writable");
    fs::write(folder.join(DIGITS[1]), (0..30).map(semeion).collect::<String>()).expect("writable");
}

fn preset(folder: &Path) -> Config {
    let overrides = [
        format!("model.path={TINY_BERT}"),
        format!("data.path={}", folder.display()),
        "batch-size=4".to_owned(),
        "lora.lora_dropout=0.1".to_owned(),
    ];
    config::parse(PRESET.parse().expect("valid TOML"), &overrides).expect("valid")
}

fn site(config: &Config, path: &Path) -> SiteConfig {
    let data = DataConfig { path: path.to_owned(), train_files: Vec::new(), ..config.data.source.clone() };
    let personal_test_fraction = config.data.partition.personal_test_fraction;
    SiteConfig { model: config.model.clone(), data, personal_test_fraction }
}

fn rows_of(data: &LoadedData) -> &[Record] {
    let LoadedData::Text(text) = data else { panic!("expected texts") };
    text.train()
}

fn texts(records: &[Record], rows: &[u32]) -> Vec<(String, String)> {
    rows.iter().map(|&row| &records[row as usize]).map(|row| (row.text.clone(), row.label.clone())).collect()
}

#[test]
fn a_site_reads_the_rows_that_the_simulator_gives_the_same_client() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    write(folder.path());
    let config = preset(folder.path());
    let material = Material::load(&config, &device("cpu").expect("known").into()).expect("loads");
    let clients = material.clients(&config).expect("three clients");
    let seed = Seed(config.run.seed);
    let preprocessor = config.model.locate().expect("a directory").preprocessor().expect("reads texts");
    let all = LoadedData::load(&config.data.source, &preprocessor, seed).expect("loads");
    assert_eq!(clients.train.len(), FILES.len());
    for (&client, file) in clients.train.keys().zip(FILES) {
        let own = site(&config, &folder.path().join(file));
        let share = SharedRows::read(&own, &preprocessor, seed, client, material.train.label_names()).expect("loads");
        let expected = texts(rows_of(&all), &clients.train[&client]);
        assert!(!expected.is_empty());
        assert_eq!(texts(rows_of(share.data()), &share.rows), expected, "{file}: rows to train on");
        let expected = texts(rows_of(&all), &clients.own_tests[&client]);
        assert!(!expected.is_empty());
        assert_eq!(texts(rows_of(share.data()), &share.own_test), expected, "{file}: rows of its own test");
    }
}

#[test]
fn a_site_comes_to_the_adapter_that_the_simulator_comes_to_for_the_same_client() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    write(folder.path());
    sites_agree_with(&preset(folder.path()), folder.path(), &FILES);
}

#[test]
fn a_site_with_a_language_model_agrees_with_the_simulator_too() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let files = ["a.txt", "b.txt", "c.txt"];
    for (source, file) in files.into_iter().enumerate() {
        let words = (0..150 + 20 * source).map(|place| format!("w{} ", 4 + place * (source + 1) % 60));
        fs::write(folder.path().join(file), words.collect::<String>()).expect("writable");
    }
    let overrides = [
        format!("model.path={TINY_LLAMA}"),
        format!("data.path={}", folder.path().display()),
        "data.format=text".to_owned(),
        "data.max-length=8".to_owned(),
        "lora.target_modules=all-linear".to_owned(),
        "batch-size=4".to_owned(),
    ];
    let config = config::parse(PRESET.parse().expect("valid TOML"), &overrides).expect("valid");
    sites_agree_with(&config, folder.path(), &files);
}

#[test]
fn so_does_a_site_with_pictures_of_its_own_format() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    write_digits(folder.path());
    let overrides = [
        format!("model.path={TINY_VIT}"),
        format!("data.path={}", folder.path().display()),
        format!("data.train-files={DIGITS:?}"),
        "batch-size=8".to_owned(),
    ];
    let config = config::parse(PICTURES.parse().expect("valid TOML"), &overrides).expect("valid");
    sites_agree_with(&config, folder.path(), &DIGITS);
}

/// Each file is a client of the simulation and the only file of a site.
fn sites_agree_with(config: &Config, folder: &Path, files: &[&str]) {
    let device = device("cpu").expect("known");
    let material = Material::load(config, &device.clone().into()).expect("loads");
    let clients = material.clients(config).expect("a client for each file");
    let spec = material.spec(config).expect("an adapter");
    let start = material.initial(&spec, config.run.init().expect("known"), config.run.seed).expect("a first adapter");
    let strategy = config.run.strategy().expect("known");
    let plan = Arc::new(RoundPlan {
        run: "trial".to_owned(),
        round: RoundId(1),
        num_rounds: 2,
        directive: strategy.directive(RoundId(1)),
        spec: spec.digest(),
        base: start.digest(),
        seed: config.run.seed,
        local: config.run.local().expect("valid"),
    });
    let shards: BTreeMap<ClientId, Vec<u32>> = clients.train.clone();
    let mut simulated =
        LocalTrainer::new(Arc::clone(&material.model), Arc::clone(&material.train), Arc::new(shards)).expect("rows");
    let state = tempfile::tempdir().expect("a temporary directory");
    for (client, file) in clients.train.keys().copied().zip(files) {
        let own = Site::load(site(config, &folder.join(file)), Seed(0), &device).expect("loads");
        assert_eq!(own.examples().expect("readable"), clients.train[&client].len() as u64);
        let terms = Terms::default();
        let labels = material.train.label_names().to_vec();
        let (id, name, base_model) = (1, "trial".to_owned(), Digest::of(b"any"));
        terms.set(Arc::new(RunInfo { id, name, spec: Arc::clone(&spec), base_model, labels }), RoundId(1));
        let mut deployed = SiteTrainer::new(own, terms, Watch::default(), state.path().join(client.to_string()), false);
        let job = [Job { client, plan: Arc::clone(&plan), start: start.clone() }];
        let expected = simulated.train(&job).remove(0).expect("trains");
        let found = deployed.train(&job).remove(0).expect("trains");
        assert!(found == expected, "{file}: the two adapters differ");
        assert!(found.steps > 1);
    }
}
