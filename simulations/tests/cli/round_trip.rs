//! Adapters on disk are the adapters of the run.

use std::collections::BTreeMap;

use fedlora_adapter::{Adapter, read_peft};
use fedlora_learner::device;
use fedlora_simulations::{config, experiment::Material};
use serde_json::Value;

use crate::support::Place;

/// Reads an exported adapter as a program other than the run would: from the files and the run's own configuration.
fn exported(place: &Place, name: &str) -> Adapter {
    let data = format!("data.path={}", place.path("data").display());
    let config = config::load(&place.path("run/config.toml"), &[data]).expect("the run's configuration is valid");
    let material =
        Material::load(&config, &device("cpu").expect("a processor").into()).expect("the run's material is there");
    let spec = material.spec(&config).expect("the run had a specification");
    let init = config.run.method().expect("known").init.unwrap_or(config.run.lora.init_lora_weights);
    // A seed that is not the run's: what the files lack would come from here and change the digest.
    let other = material.initial(&spec, init, config.run.seed + 1).expect("an adapter can be initialised");
    read_peft(&place.path("run/adapters").join(name), &spec, &other).expect("the export is an adapter")
}

fn summary(place: &Place) -> BTreeMap<String, Value> {
    serde_json::from_str(&place.read("run/metrics_summary.json")).expect("JSON")
}

#[test]
fn the_exported_global_adapter_has_the_digest_of_the_summary() {
    for method in ["fedavg", "fedsvd", "fedsa-vera"] {
        let place = Place::with_sentences();
        place.sim(&format!("run job.toml --out run --set method.name={method}")).succeeds();
        let digest = exported(&place, "global").digest().to_hex();
        assert_eq!(summary(&place)["adapter_digest"], Value::from(digest), "{method}");
    }
}

#[test]
fn an_exported_personal_adapter_shares_the_global_a_and_has_its_own_b() {
    let place = Place::with_sentences();
    place.sim("run job.toml --out run --set method.name=fedsa-lora").succeeds();
    let (global, personal) = (exported(&place, "global"), exported(&place, "client-0"));
    for (name, factors) in global.modules() {
        let own = &personal.modules()[name];
        assert_eq!(own.a, factors.a, "{name}");
        assert_ne!(own.b, factors.b, "{name}");
    }
}
