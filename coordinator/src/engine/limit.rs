//! The coordinator's limit on what all its runs release.

use fedlora_privacy::{PrivacyError, SampledGaussian};

use super::{Engine, EngineError, plan};
use crate::{
    central::{Epsilon, PrivacyLimit},
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
