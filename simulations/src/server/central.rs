//! The server's own noise, and the `delta` of a private run.

use fedlora_adapter::{RoundId, Seed};
use fedlora_coordinator::{StepPrivacy, is_released};
use fedlora_privacy::Origin;

use super::{Server, ServerParts, closing::payload_bytes};

impl Server {
    /// What makes a server step private; nothing where it adds no noise, or clients send nothing.
    pub(super) fn central(&self, round: RoundId) -> Option<StepPrivacy> {
        let plan = self.parts.central.clone().filter(|_| is_released(self.directive(round)))?;
        let before = self.parts.rounds.last().and_then(|metrics| metrics.privacy.as_ref()?.central);
        let clip_bound = before.map(|release| release.next_clip_bound);
        Some(StepPrivacy { plan, clip_bound, origin: Origin::Simulated, seed: Seed(self.parts.seed) })
    }

    /// The `delta` of a private run's guarantee.
    pub(super) fn delta(&self) -> Option<f64> {
        let central = self.parts.central.as_ref().map(|plan| plan.terms().target_delta);
        self.parts.local.privacy.map(|terms| terms.delta()).or(central)
    }
}

/// What to say of a server whose noise leaves nothing to learn from.
pub(super) fn drowned(parts: &ServerParts) -> Option<String> {
    let directive = parts.strategy.directive(RoundId(1));
    let values = payload_bytes(parts.global.spec(), directive) / 4;
    parts.central.as_ref().filter(|_| is_released(directive))?.drowned(values as usize)
}
