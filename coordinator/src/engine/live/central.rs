//! A live run whose server adds noise: what its step needs, and what it writes into the books.

use fedlora_adapter::Seed;
use fedlora_privacy::{Epsilon, Origin};

use super::Live;
use crate::{
    StoreError,
    central::{Account, StepPrivacy, is_released},
    config::CentralRelease,
};

impl Live {
    /// What the server step needs to be private; none for a plain run, and for a method that sends nothing.
    pub(crate) fn step_privacy(&self, origin: Origin) -> Option<StepPrivacy> {
        let round = self.round_number();
        let plan = self.central.clone().filter(|_| is_released(self.strategy.directive(round)))?;
        let clip_bound = self.record.account.as_ref().and_then(|account| account.clip_bound);
        Some(StepPrivacy { plan, clip_bound, origin, seed: Seed(self.config.seed) })
    }

    /// Books what the server step released, to be committed with its adapter.
    pub(super) fn charge(&mut self, release: Option<(CentralRelease, Origin)>) -> Result<(), StoreError> {
        let (Some((release, origin)), Some(plan)) = (release, &self.central) else { return Ok(()) };
        let delta = plan.terms().target_delta;
        let account = self.record.account.get_or_insert_with(|| Account::open(delta, origin));
        account.charge(release).map_err(|error| StoreError::Contradiction(format!("central privacy: {error}")))?;
        let Epsilon { pld, rdp } = account.epsilon;
        tracing::info!(run = self.id.0, epsilon_pld = pld, epsilon_rdp = rdp, delta, "privacy spent on each client");
        Ok(())
    }
}
