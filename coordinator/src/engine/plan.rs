//! From a configuration to what a live run needs: settings, specification, first adapter.

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterSpec, AdapterUpdate, Directive, PeftOptions, Seed};
use fedlora_aggregation::initial;

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
pub(crate) fn first_adapter(config: &RunConfig, spec: &Arc<AdapterSpec>) -> Result<Adapter, EngineError> {
    let init = config.init()?;
    if init.needs_weights() || spec.kind.row().needs_weights {
        return Err(EngineError::NeedsWeights);
    }
    Ok(initial(Arc::clone(spec), init, Seed(config.seed), &|_| None)?)
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

    #[test]
    fn what_needs_frozen_weights_is_refused_with_a_way_out() {
        for lora in ["init_lora_weights = 'pissa'", "init_lora_weights = 'olora'", "use_dora = true"] {
            let text = format!("num-rounds = 1\nlearning-rate = 0.1\n[method]\nname = 'fedavg'\n[lora]\nr = 2\n{lora}");
            refused(&from_toml(&text).expect("valid"));
        }
    }

    fn refused(config: &RunConfig) {
        let modules = [(fedlora_adapter::ModuleName::new("m"), fedlora_adapter::ModuleSpec { d_in: 9, d_out: 9 })];
        let spec = config.spec(modules.into(), std::collections::BTreeMap::new()).expect("usable");
        let error = first_adapter(config, &spec).expect_err("no weights here");
        assert!(error.to_string().contains("orthonormal"), "{error}");
    }
}
