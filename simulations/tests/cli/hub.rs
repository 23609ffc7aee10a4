//! A base model by its name on the Hugging Face Hub, in the words of the environment.

#[path = "../../../learner/tests/hub/server.rs"]
mod server;

use std::path::Path;

use self::server::{REPOSITORY, Server};
use crate::support::{Outcome, Place, TINY_BERT};

fn sim(place: &Place, arguments: &str, variables: &[(&str, &str)]) -> Outcome {
    let mut command = place.command(arguments);
    command.env_remove("HF_HUB_CACHE").env_remove("HF_TOKEN").env("HF_HOME", place.path("hub-home"));
    command.envs(variables.iter().copied());
    Outcome::of(&command.output().expect("the program can be started"))
}

#[test]
fn a_model_by_its_name_makes_the_same_run_as_its_directory_and_none_without_it() {
    let (place, hub) = (Place::with_sentences(), Server::of(Path::new(TINY_BERT)));
    let named = format!("run job.toml --set model.path={REPOSITORY}");
    sim(&place, &format!("{named} --out offline"), &[("HF_HUB_OFFLINE", "1")])
        .fails(3, &["HF_HUB_OFFLINE is set", REPOSITORY, "hub-home"]);
    let missing = format!("{named} --out missing --set model.revision=v2");
    sim(&place, &missing, &[("HF_ENDPOINT", hub.address())]).fails(3, &["org/tiny-bert has no revision v2"]);
    sim(&place, &format!("{named} --out named"), &[("HF_ENDPOINT", hub.address())]).succeeds();
    hub.asked();
    sim(&place, &format!("{named} --out again"), &[("HF_ENDPOINT", hub.address()), ("HF_HUB_OFFLINE", "1")]).succeeds();
    assert_eq!(hub.asked(), [""; 0], "what is in the cache is not asked for");
    place.sim("run job.toml --out plain").succeeds();
    for file in ["adapters/global/adapter_model.safetensors", "metrics_summary.json"] {
        let bytes = |run: &str| std::fs::read(place.path(run).join(file)).expect("written");
        assert!(bytes("named") == bytes("plain") && bytes("again") == bytes("plain"), "{file}");
    }
    let config = place.read("named/adapters/global/adapter_config.json");
    assert!(config.contains(&format!("\"base_model_name_or_path\": \"{REPOSITORY}\"")), "{config}");
    hub.state().refusal = Some((403, Some("GatedRepo")));
    let gated = format!("{named} --out gated");
    sim(&place, &gated, &[("HF_ENDPOINT", hub.address())])
        .fails(3, &["org/tiny-bert is not open to everybody", "HF_TOKEN"]);
    assert!(["missing", "offline", "gated"].iter().all(|run| !place.exists(run)), "nothing was written");
}
