//! Differential privacy in the engine: what operators are told of it, and the limit on what all runs release.

use fedlora_adapter::NoiseLevel;
use fedlora_privacy::{ClipBound, Epsilon, Origin, PrivacyError, SampledGaussian};
use fedlora_proto::operator::RunPrivacy;

use super::{Engine, EngineError, plan};
use crate::{
    central::PrivacyLimit,
    config::{CentralPlan, ConfigError},
    store::RunRecord,
};

impl Engine {
    /// Refuses a run that would pass the limit if all its rounds are done, together with everything that any run has
    /// released.
    pub(super) fn refuse_beyond_limit(&mut self, record: &RunRecord) -> Result<(), EngineError> {
        let Some(PrivacyLimit { epsilon_limit: limit, delta }) = self.settings.privacy_limit else { return Ok(()) };
        let Some(plan) = plan::central(&plan::from_toml(&record.config)?)? else {
            return Err(EngineError::NotPrivate);
        };
        let wanted = self.spent_with(record, &plan, delta)?.map_err(impossible)?;
        if wanted <= limit { Ok(()) } else { Err(EngineError::OverPrivacyLimit { wanted, limit, delta }) }
    }

    fn spent_with(
        &mut self,
        record: &RunRecord,
        plan: &CentralPlan,
        delta: f64,
    ) -> Result<Result<f64, PrivacyError>, EngineError> {
        let runs = self.records.runs(usize::MAX)?;
        // Simulated noise protects nobody, so what it released is counted like any other.
        let accounts = runs.iter().filter_map(|(_, run)| run.account.as_ref());
        let mut history: Vec<SampledGaussian> = accounts.flat_map(|account| account.releases.clone()).collect();
        let steps = record.num_rounds.saturating_sub(record.done.0);
        let event = plan.event();
        let planned = SampledGaussian::new(event.noise_multiplier(), event.sample_rate(), steps);
        Ok(planned.and_then(|planned| {
            history.push(planned);
            Ok(Epsilon::of(&history, delta)?.pld)
        }))
    }
}

fn impossible(error: PrivacyError) -> EngineError {
    ConfigError::invalid("central-privacy", error.to_string()).into()
}

/// What a run protects, from its configuration and its account.
pub(super) fn run_privacy(record: &RunRecord) -> Option<RunPrivacy> {
    // A configuration that was written by this coordinator can be read; one that cannot is told of elsewhere.
    let config = plan::from_toml(&record.config).ok()?;
    if let Some(terms) = config.privacy {
        let (noise_multiplier, target_epsilon) = match terms.noise() {
            NoiseLevel::Multiplier(multiplier) => (multiplier, 0.0),
            NoiseLevel::Target { epsilon, .. } => (0.0, epsilon),
        };
        return Some(RunPrivacy {
            unit: "example".to_owned(),
            delta: terms.delta(),
            noise_multiplier,
            target_epsilon,
            clipping_norm: terms.max_grad_norm(),
            ..RunPrivacy::default()
        });
    }
    let (terms, plan) = (config.central_privacy?, plan::central(&config).ok()??);
    let account = record.account.as_ref();
    let bound = account.and_then(|account| account.clip_bound);
    Some(RunPrivacy {
        unit: "client".to_owned(),
        delta: terms.target_delta,
        epsilon_pld: Some(account.map_or(0.0, |account| account.epsilon.pld)),
        epsilon_rdp: Some(account.map_or(0.0, |account| account.epsilon.rdp)),
        target_epsilon: terms.target_epsilon.unwrap_or(0.0),
        noise_multiplier: plan.event().noise_multiplier(),
        clipping_norm: bound.map_or(terms.clipping_norm, ClipBound::value),
        is_simulated: account.is_some_and(|account| account.origin == Origin::Simulated),
    })
}
