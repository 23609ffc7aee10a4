//! How a unit's gradient is bounded: by one norm, by one for each tensor, or by one that follows the norms.

use fedlora_adapter::{GradientClipping, NoiseKind, PrivacyTerms};
use fedlora_privacy::{
    AdaptiveClip, ClipBound, GaussianNoise, LayerBounds, NoiseMode, NoiseRng, Outcome, PrivacyError, SampledGaussian,
    clip,
};

/// The way to make noise that a run's terms ask for.
#[must_use]
pub fn noise_mode(kind: NoiseKind) -> NoiseMode {
    match kind {
        NoiseKind::Grid => NoiseMode::Grid,
        NoiseKind::Fast => NoiseMode::Fast,
    }
}

/// The state of a client's bound in one round.
#[derive(Debug)]
pub(super) struct Bounding {
    rule: Rule,
    mode: NoiseMode,
    /// Of the noise on gradients; more than is accounted where a count is released besides.
    noise_multiplier: f64,
}

#[derive(Debug)]
enum Rule {
    Flat(ClipBound),
    PerLayer {
        bounds: LayerBounds,
        /// Values of each trained tensor, in the order of a gradient.
        sizes: Vec<usize>,
    },
    Adaptive {
        clip: AdaptiveClip,
        /// Units of this step, and those within the bound.
        units: usize,
        within: usize,
    },
}

impl Bounding {
    /// Rules for gradients that consist of tensors of these sizes.
    pub(super) fn new(
        terms: PrivacyTerms,
        event: SampledGaussian,
        units: usize,
        sizes: &[usize],
    ) -> Result<Self, PrivacyError> {
        let (bound, sigma) = (ClipBound::new(terms.max_grad_norm())?, event.noise_multiplier());
        let mode = noise_mode(terms.noise_kind());
        let mut noise_multiplier = sigma;
        let rule = match terms.clipping() {
            GradientClipping::Flat => Rule::Flat(bound),
            GradientClipping::PerLayer => {
                let each = ClipBound::new(bound.value() / (sizes.len().max(1) as f64).sqrt())?;
                Rule::PerLayer { bounds: LayerBounds::new(vec![each; sizes.len().max(1)])?, sizes: sizes.to_vec() }
            }
            GradientClipping::Adaptive => {
                let expected = event.sample_rate() * units as f64;
                let deviation = AdaptiveClip::usual_count_deviation(sigma, expected);
                let clip = AdaptiveClip::new(bound, sigma, deviation, expected, mode)?;
                noise_multiplier = clip.gradient_noise_multiplier();
                Rule::Adaptive { clip, units: 0, within: 0 }
            }
        };
        let bounding = Self { rule, mode, noise_multiplier };
        bounding.noise(0.0)?;
        Ok(bounding)
    }

    /// The largest norm of a unit's part in the sum of this step.
    pub(super) fn bound(&self) -> ClipBound {
        match &self.rule {
            Rule::Flat(bound) => *bound,
            Rule::PerLayer { bounds, .. } => bounds.total(),
            Rule::Adaptive { clip, .. } => clip.bound(),
        }
    }

    /// Noise for this step's sum, which neighbours may move by `extra` more than the bound.
    pub(super) fn noise(&self, extra: f64) -> Result<GaussianNoise, PrivacyError> {
        GaussianNoise::new(self.mode, self.noise_multiplier, self.bound())?.with_extra_sensitivity(extra)
    }

    /// Bounds the gradient of one unit. One that is not finite becomes zero: to stop would tell.
    pub(super) fn clip(&mut self, gradient: &mut [f32]) -> Result<(), PrivacyError> {
        match &mut self.rule {
            Rule::Flat(bound) => {
                clip(&mut [gradient], *bound);
            }
            Rule::PerLayer { bounds, sizes } => {
                let mut rest = gradient;
                let mut layers = Vec::with_capacity(sizes.len());
                for &size in sizes.iter() {
                    let (layer, after) = rest.split_at_mut(size.min(rest.len()));
                    layers.push(layer);
                    rest = after;
                }
                bounds.clip(&mut layers)?;
            }
            Rule::Adaptive { clip: adaptive, units, within } => {
                let clipped = clip(&mut [gradient], adaptive.bound());
                *units += 1;
                *within += usize::from(clipped.outcome == Outcome::Kept);
            }
        }
        Ok(())
    }

    /// After the sum of a step is released: a bound that adapts moves.
    pub(super) fn step(&mut self, rng: &mut dyn NoiseRng) -> Result<(), PrivacyError> {
        if let Rule::Adaptive { clip, units, within } = &mut self.rule {
            clip.update(std::mem::take(within), std::mem::take(units), rng)?;
        }
        Ok(())
    }
}
