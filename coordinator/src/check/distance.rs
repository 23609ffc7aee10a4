//! How far an update may be from the adapter that training started from.
//!
//! Averages of factors can be moved by updates whose product looks honest: `(10·B, A/10)` has the product of `(B, A)`,
//! so only a bound on each factor by itself stops it. The bound has to hold for every honest client, whatever its data,
//! and needs a unit that means the same for `A`, `B` and heads. That unit is what optimisers offer: the learning rate.
//!
//! One step of Adam moves a value by at most `c` times the learning rate, whatever the gradients are. With `m_t` and
//! `v_t` of arXiv 1412.6980, algorithm 1, Cauchy-Schwarz gives
//! `|m_t| <= (1-b1)/sqrt(1-b2) · 1/sqrt(1-b1²/b2) · sqrt(v_t)`, hence `c <= 7.27` for `b1 = 0.9`, `b2 = 0.999`; the
//! corrections of the bias only make early steps smaller. Over `T` steps at rates of at most `lr` no value can be farther
//! than `7.27·lr·T` from its start, and decoupled weight decay adds at most `lr·T·decay` times the value. A step of SGD
//! moves a value by the rate times its velocity, at most `1/(1-momentum)` gradients. A gradient that is clipped is at most
//! `max-grad-norm` long. For one that is not clipped there is no proof: the bound then takes gradients of at most
//! `max-factor-distance` per value as the honest ones.

use fedlora_adapter::{
    Adapter, Directive, NoiseLevel, Optimizer, PrivacyTerms, RoundPlan, Side, TensorRef, TensorSource, UpdateFile,
    UpdateSource,
};

use super::{CheckError, Rejection, sort};
use crate::ReasonCode;

/// The distance that is allowed by default, in units of [`Reach`]: above the 7.27 that Adam can never pass, and far
/// below an update that was multiplied by 100.
pub const DEFAULT_MAX_FACTOR_DISTANCE: f64 = 8.0;

/// Values compared at a time.
const BLOCK: usize = 16 * 1024;

/// How far one round of training moves a value `x` of the broadcast adapter: `fixed + relative·|x|`, with every optimiser
/// step of length one learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    fixed: f64,
    relative: f64,
    rounding: f64,
}

impl Reach {
    /// The reach of a client that did `steps` optimiser steps of a plan.
    #[must_use]
    pub fn new(plan: &RoundPlan, steps: u64) -> Self {
        let local = &plan.local;
        let (step, decay) = match local.optimizer {
            Optimizer::Adamw { weight_decay, .. } => (1.0, weight_decay),
            Optimizer::Sgd { momentum, weight_decay } => {
                let gradient = match local.privacy {
                    Some(terms) => private_gradient(terms, local.batch_size),
                    None if local.max_grad_norm > 0.0 => local.max_grad_norm,
                    None => 1.0,
                };
                (gradient / (1.0 - momentum), weight_decay / (1.0 - momentum))
            }
        };
        let way = local.learning_rate * steps as f64;
        // Each step rounds its result to f32.
        let rounding = steps as f64 * f64::from(f32::EPSILON);
        Self { fixed: way * step, relative: way * decay, rounding }
    }

    /// Largest distance allowed from a value `x`: `.0 + .1·|x|`.
    fn bound(self, max_distance: f64, rounds: f64) -> (f32, f32) {
        let relative = max_distance * self.relative + self.rounding;
        ((max_distance * self.fixed * rounds) as f32, (relative * rounds) as f32)
    }
}

/// A value of a private gradient, in honest training: one clipped example for each of an expected batch, and one standard
/// deviation of the noise. The default distance is eight of it, which normal noise passes once in 10^15 values. A client
/// that works out its own noise tells nobody how much; it may be as large as the clipped sum.
fn private_gradient(terms: PrivacyTerms, batch_size: usize) -> f64 {
    let noise = match terms.noise() {
        NoiseLevel::Multiplier(multiplier) => multiplier / batch_size.max(1) as f64,
        NoiseLevel::Target { .. } => 1.0,
    };
    terms.max_grad_norm() * (1.0 + noise)
}

/// Checks every tensor of an update. A value that is no number is too far away, whatever the bound.
pub(super) fn check(
    update: &UpdateFile,
    plan: &RoundPlan,
    global: &Adapter,
    reach: Reach,
    max_distance: f64,
) -> Result<(), CheckError> {
    let mut block = vec![0.0; BLOCK];
    for (module, factors) in global.modules() {
        for side in [Side::A, Side::B] {
            let Some(sent) = update.factor(module, side) else { continue };
            let bound = reach.bound(max_distance, rounds(plan, side));
            if let Some(far) = farthest(&sent, factors.side(side).as_ref(), bound, &mut block)? {
                return Err(far.rejection(&format!("module {module}: factor {side}"), max_distance));
            }
        }
        factors.release();
    }
    for (name, tensor) in global.head() {
        let Some(sent) = update.extra(name) else { continue };
        if let Some(far) = farthest(&sent, tensor.as_ref(), reach.bound(max_distance, 1.0), &mut block)? {
            return Err(far.rejection(&format!("tensor {name}"), max_distance));
        }
        tensor.release();
    }
    Ok(())
}

/// Rounds of training between the broadcast factor and the one that was sent: a client that keeps its own factor may
/// have trained it in every round.
fn rounds(plan: &RoundPlan, side: Side) -> f64 {
    let Directive { download, .. } = plan.directive;
    if download.contains(side) { 1.0 } else { plan.round.0 as f64 }
}

/// A value that is too far away.
struct Far {
    index: usize,
    sent: f32,
    base: f32,
    bound: f32,
}

impl Far {
    fn rejection(&self, place: &str, max_distance: f64) -> CheckError {
        let Self { index, sent, base, bound } = self;
        let distance = (f64::from(*sent) - f64::from(*base)).abs();
        CheckError::Rejected(Rejection::new(
            ReasonCode::TooFar,
            format!(
                "{place}: value {index} is {sent}, the broadcast one is {base}: a distance of {distance:.3e}, above the \
                 {bound:.3e} that max-factor-distance = {max_distance} allows for the steps that were done"
            ),
        ))
    }
}

/// The first value that is farther from its base than `bound.0 + bound.1·|base|`, or is not finite.
fn farthest(
    sent: &TensorSource<'_>,
    base: TensorRef<'_>,
    bound: (f32, f32),
    block: &mut [f32],
) -> Result<Option<Far>, CheckError> {
    let allowed = |base: f32| bound.0 + bound.1 * base.abs();
    for (number, base) in base.values.chunks(BLOCK).enumerate() {
        let values = sent.block(number * BLOCK, block).map_err(sort)?;
        // Counting has no branch, so it runs at the speed of memory; the place is looked for only where there is one.
        let far = |(sent, base): (&f32, &f32)| (sent - base).abs() > allowed(*base) || !sent.is_finite();
        let count: u32 = values.iter().zip(base).map(|pair| u32::from(far(pair))).sum();
        if count > 0 {
            let place = values.iter().zip(base).position(far).unwrap_or(0);
            let (sent, base) = (values[place], base[place]);
            return Ok(Some(Far { index: number * BLOCK + place, sent, base, bound: allowed(base) }));
        }
    }
    Ok(None)
}
