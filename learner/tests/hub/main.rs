//! Models by name: what is fetched is what the directory holds, what is interrupted goes on, and what cannot be had is told
//! with what to do.

mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use fedlora_learner::{Hub, HubError, HubName, HubSettings, ModelConfig, Precision, device};

use self::server::{COMMIT, REPOSITORY, Server};

const WEIGHTS: &str = "model-00003-of-00003.safetensors";

fn tiny_bert() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny_bert")
}

/// A server of a model, and a cache that is empty.
struct World {
    server: Server,
    cache: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { server: Server::of(&tiny_bert()), cache: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> HubSettings {
        HubSettings {
            endpoint: self.server.address().to_owned(),
            cache: self.cache.path().to_owned(),
            token: None,
            offline: false,
            certificates: None,
            patience: Duration::from_secs(20),
        }
    }

    fn fetch(&self, revision: &str) -> Result<PathBuf, HubError> {
        fetch_with(self.settings(), revision)
    }

    /// The one incomplete file of the cache.
    fn incomplete(&self) -> Option<u64> {
        let blobs = fs::read_dir(self.cache.path().join("models--org--tiny-bert/blobs")).unwrap();
        let mut blobs = blobs.map(|entry| entry.unwrap().path());
        let found = blobs.find(|path| path.extension().is_some_and(|end| end == "incomplete"))?;
        Some(fs::metadata(found).unwrap().len())
    }
}

fn fetch_with(settings: HubSettings, revision: &str) -> Result<PathBuf, HubError> {
    Hub::new(settings)?.fetch(&name(), revision, true)
}

fn name() -> HubName {
    HubName::of(Path::new(&format!("hf:{REPOSITORY}"))).unwrap()
}

fn config(path: impl Into<PathBuf>) -> ModelConfig {
    ModelConfig { path: path.into(), revision: None, pooling: None, random_weights: false, dtype: Precision::Float32 }
}

#[test]
fn what_is_fetched_is_the_same_model_and_is_fetched_once() {
    let world = World::new();
    let directory = world.fetch("main").unwrap();
    let [fetched, plain] = [directory.clone(), tiny_bert()].map(|path| config(path).locate().unwrap());
    assert_eq!(fetched.digest().unwrap(), plain.digest().unwrap());
    fetched.load(fedlora_adapter::Seed(0), &device("cpu").unwrap()).unwrap();
    // What a model does not need stays where it is.
    assert!(!directory.join("reference.json").exists());
    let asked = world.server.asked();
    assert!(
        asked.last().unwrap().ends_with(WEIGHTS) && !asked.iter().any(|path| path.contains("reference")),
        "{asked:?}"
    );
    // A branch may move on, so it is asked where it is; a commit is what it is.
    assert_eq!(world.fetch("main").unwrap(), directory);
    assert_eq!(world.server.asked(), [format!("/api/models/{REPOSITORY}/revision/main?blobs=true")]);
    assert_eq!(world.fetch(COMMIT).unwrap(), directory);
    assert_eq!(world.server.asked(), [""; 0]);
    assert_eq!(world.fetch("release/1").unwrap(), directory);
    assert_eq!(world.server.asked(), [format!("/api/models/{REPOSITORY}/revision/release%2F1?blobs=true")]);
}

#[test]
fn the_cache_is_laid_out_as_pythons_library_has_it() {
    let world = World::new();
    let directory = world.fetch("main").unwrap();
    let root = world.cache.path().join("models--org--tiny-bert");
    assert_eq!(directory, root.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fs::read(directory.join(WEIGHTS)).unwrap(), world.server.state().files[WEIGHTS]);
    #[cfg(unix)]
    assert!(fs::read_link(directory.join(WEIGHTS)).unwrap().starts_with("../../blobs"));
    assert_eq!(world.incomplete(), None);
}

#[test]
fn weights_are_left_where_they_are_if_nobody_wants_them() {
    let world = World::new();
    let directory = Hub::new(world.settings()).unwrap().fetch(&name(), COMMIT, false).unwrap();
    assert!(directory.join("config.json").exists() && !directory.join(WEIGHTS).exists());
    world.fetch(COMMIT).unwrap();
    assert!(directory.join(WEIGHTS).exists());
}

#[test]
fn a_download_that_breaks_off_goes_on_from_where_it_was() {
    let world = World::new();
    let size = world.server.state().files[WEIGHTS].len() as u64;
    // As long as something comes, it goes on by itself.
    world.server.state().cut = Some(700);
    let directory = world.fetch("main").unwrap();
    assert_eq!(fs::read(directory.join(WEIGHTS)).unwrap(), world.server.state().files[WEIGHTS]);
    let state = world.server.state();
    let ranges = state.requests.iter().filter(|(path, headers)| {
        path.ends_with(WEIGHTS) && headers.iter().any(|line| line.starts_with("range: bytes="))
    });
    assert_eq!(ranges.count() as u64, size.div_ceil(700) - 1);
}

#[test]
fn a_server_that_hangs_up_at_once_is_out_of_reach() {
    let world = World::new();
    world.server.state().patience = Some(0);
    let error = world.fetch("main").unwrap_err().to_string();
    assert!(error.starts_with("org/tiny-bert cannot be fetched") && error.contains("HTTPS_PROXY"), "{error}");
}

#[test]
fn an_interruption_says_how_far_it_came_and_nothing_is_fetched_twice() {
    let world = World::new();
    // Three parts of the first file, then nothing more.
    let small = "tokenizer.json";
    let mut state = world.server.state();
    (state.cut, state.patience) = (Some(100), Some(3));
    drop(state);
    let stop = world.fetch("main").unwrap_err();
    let HubError::Interrupted { repository, file, got, size, .. } = &stop else { panic!("{stop}") };
    assert_eq!((repository.as_str(), file.as_str()), (REPOSITORY, small));
    assert_eq!((*got, *size), (300, world.server.state().files[small].len() as u64));
    assert_eq!(world.incomplete(), Some(*got));
    assert!(stop.to_string().contains("start again, what has come is kept"), "{stop}");
    let mut state = world.server.state();
    (state.cut, state.patience) = (None, None);
    state.requests.clear();
    drop(state);
    let directory = world.fetch("main").unwrap();
    let (_, headers) = world.server.state().requests.iter().find(|(path, _)| path.ends_with(small)).cloned().unwrap();
    assert!(headers.contains(&"range: bytes=300-".to_owned()), "{headers:?}");
    assert_eq!(fs::read(directory.join(small)).unwrap(), world.server.state().files[small]);
}

#[test]
fn a_file_that_is_not_what_is_listed_is_thrown_away() {
    let world = World::new();
    world.server.state().digest = Some("ab".repeat(32));
    let error = world.fetch("main").unwrap_err();
    assert!(matches!(&error, HubError::Damaged { file, .. } if file.starts_with("model-00001")), "{error}");
    assert!(error.to_string().contains("SHA-256 abab"), "{error}");
    assert_eq!(world.incomplete(), Some(0));
    world.server.state().digest = None;
    world.fetch("main").unwrap();
}

#[test]
fn what_cannot_be_had_names_the_repository_and_the_next_step() {
    let world = World::new();
    let error = world.fetch("v9").unwrap_err().to_string();
    assert_eq!(error, "org/tiny-bert has no revision v9: check model.revision, a branch, a tag or a commit");
    for (status, code, words) in [
        (
            401,
            Some("RepoNotFound"),
            "has no model org/tiny-bert, and there is no directory of that name: check model.path",
        ),
        (404, None, "for a private model set HF_TOKEN"),
        (403, Some("GatedRepo"), "ask for access at http://"),
        (401, None, "/org/tiny-bert, then set HF_TOKEN to a token of that account"),
        (503, None, "answers with status 503: try again later"),
    ] {
        world.server.state().refusal = Some((status, code));
        let error = world.fetch("main").unwrap_err().to_string();
        assert!(error.contains(words), "{status} {code:?}: {error}");
    }
    world.server.state().refusal = None;
    world.server.state().files.retain(|name, _| !name.contains("model"));
    let error = world.fetch("main").unwrap_err().to_string();
    assert!(error.starts_with("org/tiny-bert has no model.safetensors: "), "{error}");
    world.server.state().files.clear();
    assert!(world.fetch("main").unwrap_err().to_string().contains("has no config.json"));
}

#[test]
fn what_was_fetched_once_needs_no_network_and_what_was_not_says_so() {
    let world = World::new();
    let offline = || HubSettings { offline: true, ..world.settings() };
    let error = fetch_with(offline(), "main").unwrap_err().to_string();
    assert!(error.starts_with("HF_HUB_OFFLINE is set and ") && error.contains("org/tiny-bert at main"), "{error}");
    let directory = world.fetch("main").unwrap();
    world.server.asked();
    for revision in ["main", COMMIT] {
        assert_eq!(fetch_with(offline(), revision).unwrap(), directory);
    }
    assert!(fetch_with(offline(), "release/1").is_err(), "nobody fetched that branch");
    assert_eq!(world.server.asked(), [""; 0]);
    // Half a snapshot is none.
    fs::remove_file(directory.join(WEIGHTS)).unwrap();
    assert!(fetch_with(offline(), "main").is_err());
    world.fetch("main").unwrap();
    // The Hub is out of reach: nobody listens there any more.
    let nobody = HubSettings { endpoint: "http://127.0.0.1:1".to_owned(), ..world.settings() };
    assert_eq!(fetch_with(nobody.clone(), "main").unwrap(), directory);
    let elsewhere = tempfile::tempdir().unwrap();
    let error = fetch_with(HubSettings { cache: elsewhere.path().to_owned(), ..nobody }, "main").unwrap_err();
    assert!(matches!(&error, HubError::Unreachable { endpoint, .. } if endpoint.ends_with(":1")), "{error}");
}

#[test]
fn a_token_goes_to_the_hub_and_to_nobody_else() {
    let (world, other) = (World::new(), Server::of(&tiny_bert()));
    // Another name of this machine, as contents come from other machines than names.
    world.server.state().elsewhere = Some(other.address().replace("127.0.0.1", "localhost"));
    let settings = HubSettings { token: Some("hf_secret".to_owned()), ..world.settings() };
    fetch_with(settings, "main").unwrap();
    let has_token = |headers: &Vec<String>| headers.contains(&"authorization: bearer hf_secret".to_owned());
    assert!(world.server.state().requests.iter().all(|(_, headers)| has_token(headers)));
    let requests = &other.state().requests;
    assert!(requests.len() > 3 && !requests.iter().any(|(_, headers)| headers.join("").contains("secret")));
}

#[test]
fn several_programs_that_want_a_model_at_once_fetch_it_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| world.fetch("main").unwrap())).collect();
        assert!(fetches.into_iter().map(|fetch| fetch.join().unwrap()).all(|path| path.join(WEIGHTS).exists()));
    });
    let files: Vec<String> = world.server.asked().into_iter().filter(|path| path.contains("/resolve/")).collect();
    let mut distinct = files.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(files.len(), distinct.len(), "{files:?}");
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let world = World::new();
    let file = world.cache.path().join("ca.pem");
    fs::write(&file, "no certificate").unwrap();
    let settings = HubSettings { certificates: Some(file), ..world.settings() };
    let error = fetch_with(settings, "main").unwrap_err().to_string();
    assert!(error.contains("ca.pem"), "{error}");
}
