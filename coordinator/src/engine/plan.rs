//! From a configuration to what a live run needs: settings, specification, first adapter.

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterSpec, AdapterUpdate, Directive, PeftOptions, Seed};
use fedlora_aggregation::initial_from;

use super::EngineError;
use crate::{
    ModelDescription, Participation, RunSettings,
    config::{CentralPlan, ClientSampling, ConfigError, RunConfig},
    is_released,
};

/// What decides the rounds of a run whose clients come and go.
///
/// The simulator knows how many clients there are; a coordinator does not. `clients-per-round` is taken as it is, and
/// so is `fraction-train = 1`: everybody who is there is invited. Another fraction is one of `min-available-clients`.
pub(crate) fn settings(config: &RunConfig) -> Result<RunSettings, EngineError> {
    let (wanted, invited) = if config.clients_per_round.is_none() && config.fraction_train >= 1.0 {
        (usize::MAX, usize::MAX)
    } else {
        let wanted = config.cohort(config.min_available_clients.max(config.clients_per_round.unwrap_or(1)));
        (wanted, (wanted as f64 * (1.0 + config.over_sample)).ceil() as usize)
    };
    let settings = RunSettings {
        num_rounds: config.num_rounds,
        seed: config.seed,
        clients_per_round: invited,
        sample_rate: None,
        min_available_clients: config.min_available_clients,
        participation: Participation {
            min_results: config.results_needed()?,
            target_results: wanted,
            grace_ms: config.grace_ms,
            deadline_ms: if config.round_deadline_ms == 0 { u64::MAX } else { config.round_deadline_ms },
        },
    };
    settings.validate()?;
    Ok(settings)
}

/// What the server releases in each round. Clients come and go, so that the guarantee may not count on how they are chosen.
pub(crate) fn central(config: &RunConfig) -> Result<Option<CentralPlan>, EngineError> {
    let Some(terms) = &config.central_privacy else { return Ok(None) };
    if terms.client_sampling == ClientSampling::Poisson {
        let reason =
            "= \"poisson\" is for simulations: here those take part who are there, and who they are is no secret";
        return Err(ConfigError::invalid("central-privacy.client-sampling", reason).into());
    }
    let expected = config.clients_per_round.unwrap_or(1);
    let plan = terms.plan(config.num_rounds, expected, expected);
    Ok(Some(plan.map_err(|error| ConfigError::invalid("central-privacy", error.to_string()))?))
}

/// What to say of noise that leaves nothing to learn from.
pub(crate) fn drowned(central: Option<&CentralPlan>, spec: &AdapterSpec, directive: Directive) -> Option<String> {
    let shapes = AdapterUpdate::expected(spec, directive);
    let values = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
    central.filter(|_| is_released(directive))?.drowned(values)
}

/// The adapter of a configuration over a base model.
pub(crate) fn spec(config: &RunConfig, model: &ModelDescription) -> Result<Arc<AdapterSpec>, ConfigError> {
    config.spec(model.modules.clone(), model.head.clone())
}

/// The first global adapter.
pub(crate) fn first_adapter(
    config: &RunConfig,
    spec: &Arc<AdapterSpec>,
    model: &ModelDescription,
) -> Result<Adapter, EngineError> {
    let init = config.init()?;
    // A description holds what the adapter's kind takes from the weights and what was found in data, nothing for
    // initialisations of other kinds.
    let needs_description = spec.kind.row().needs_weights || init.needs_data();
    let is_described = needs_description && !model.first_values.is_empty();
    if (init.needs_weights() || needs_description) && !is_described {
        return Err(EngineError::NeedsWeights);
    }
    Ok(initial_from(Arc::clone(spec), init, Seed(config.seed), &model.first_values, &|_| None)?)
}

/// What exported adapters say about the base model.
pub(crate) fn peft_options(config: &RunConfig, model: &ModelDescription) -> PeftOptions {
    PeftOptions {
        base_model: model.base_model.clone(),
        task_type: model.task_type.clone(),
        dropout: config.lora.lora_dropout,
    }
}

/// A configuration as text, every default written out.
pub(crate) fn to_toml(config: &RunConfig) -> Result<String, ConfigError> {
    toml::to_string(&config.to_table()?).map_err(|error| ConfigError::Value(error.to_string()))
}

/// A configuration from [`to_toml`].
pub(crate) fn from_toml(text: &str) -> Result<RunConfig, ConfigError> {
    let table = text.parse::<toml::Table>().map_err(|error| ConfigError::Value(error.to_string()));
    RunConfig::take(&mut table?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fedlora_adapter::{AdapterKind, Digest, ModuleName, ModuleSpec, Tensor};

    use super::*;

    fn invited(keys: &str) -> (usize, usize) {
        let text = format!("num-rounds = 1\nlearning-rate = 0.1\n{keys}\n[method]\nname = 'fedavg'\n");
        let settings = settings(&from_toml(&text).expect("valid")).expect("usable");
        (settings.participation.target_results, settings.clients_per_round)
    }

    #[test]
    fn everybody_is_invited_unless_the_configuration_says_otherwise() {
        assert_eq!(invited(""), (usize::MAX, usize::MAX));
        assert_eq!(invited("clients-per-round = 4"), (4, 4));
        assert_eq!(invited("clients-per-round = 4\nover-sample = 0.3"), (4, 6));
        assert_eq!(invited("fraction-train = 0.5\nmin-available-clients = 6"), (3, 3));
    }

    #[test]
    fn a_round_waits_for_as_many_results_as_its_method_needs() {
        let needed = |method: &str| {
            let text = format!("num-rounds = 1\nlearning-rate = 0.1\nmin-results = 2\n[method]\n{method}\n");
            settings(&from_toml(&text).expect("valid")).expect("usable").participation.min_results
        };
        assert_eq!(needed("name = 'fedavg'"), 2);
        assert_eq!(needed("name = 'coordinate-median'"), 5);
        assert_eq!(needed("name = 'krum'\nnum-malicious-nodes = 3"), 9);
    }

    fn model(modules: &[&str]) -> ModelDescription {
        let module = |name: &&str| (ModuleName::new(*name), ModuleSpec::new(9, 7));
        ModelDescription {
            base_model: "toy".to_owned(),
            task_type: None,
            digest: Digest::of(b"toy"),
            modules: modules.iter().map(module).collect(),
            head: BTreeMap::new(),
            labels: Vec::new(),
            first_values: BTreeMap::new(),
        }
    }

    fn first(lora: &str, model: &ModelDescription) -> Result<Adapter, EngineError> {
        let text = format!("num-rounds = 1\nlearning-rate = 0.1\n[method]\nname = 'fedavg'\n[lora]\nr = 2\n{lora}");
        let config = from_toml(&text).expect("valid");
        first_adapter(&config, &spec(&config, model).expect("usable"), model)
    }

    #[test]
    fn what_needs_frozen_weights_is_refused_with_a_way_out() {
        let needy =
            ["init_lora_weights = 'pissa'", "init_lora_weights = 'olora'", "use_dora = true", "peft_type = 'LORA_XS'"];
        for lora in needy {
            let error = first(lora, &model(&["m"])).expect_err("no weights here");
            assert!(error.to_string().contains("describe"), "{error}");
        }
    }

    #[test]
    fn a_description_says_what_kinds_take_from_the_weights() {
        let weight = Tensor::from_fn(&[7, 9], |index| (1.3 * index as f32).sin());
        for (lora, kind) in [
            ("init_lora_weights = 'olora'", AdapterKind::Olora),
            ("use_dora = true", AdapterKind::Dora),
            ("peft_type = 'LORA_XS'", AdapterKind::LoraXs),
        ] {
            let mut model = model(&["m"]);
            let config =
                format!("num-rounds = 1\nlearning-rate = 0.1\nmethod.name = 'fedavg'\nlora.r = 2\nlora.{lora}");
            let spec = spec(&from_toml(&config).expect("valid"), &model).expect("usable");
            assert_eq!(spec.kind, kind);
            model.first_values = spec.first_values(&|_| Some(weight.clone())).expect("a weight");
            let expected = Adapter::initial_over(spec, Seed(1), &|_| Some(weight.clone())).expect("a weight");
            assert_eq!(first(lora, &model).expect("described"), expected);
            model.first_values.values_mut().for_each(|values| values.truncate(3));
            first(lora, &model).expect_err("too short");
        }
    }
}
