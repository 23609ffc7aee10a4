//! How a client is told to train.

use fedlora_adapter::{
    GradientClipping, LocalHyperparameters, LocalWork, NoiseKind, NoiseLevel, Optimizer, PrivacyTerms,
    PrivacyTermsError, Schedule,
};

use super::{required, size};
use crate::{ProtoError, federation as wire};
use wire::{
    local_hyperparameters::{Optimizer as WireOptimizer, Work},
    privacy_terms::Noise,
};

impl From<&LocalHyperparameters> for wire::LocalHyperparameters {
    fn from(local: &LocalHyperparameters) -> Self {
        let work = match local.work {
            LocalWork::Epochs(epochs) => Work::Epochs(epochs),
            LocalWork::Steps(steps) => Work::Steps(steps),
        };
        let optimizer = match local.optimizer {
            Optimizer::Sgd { momentum, weight_decay } => WireOptimizer::Sgd(wire::Sgd { momentum, weight_decay }),
            Optimizer::Adamw { beta_1, beta_2, epsilon, weight_decay } => {
                WireOptimizer::Adamw(wire::Adamw { beta_1, beta_2, epsilon, weight_decay })
            }
        };
        let schedule = match local.schedule {
            Schedule::Constant => wire::Schedule::Constant,
            Schedule::Linear => wire::Schedule::Linear,
            Schedule::Cosine => wire::Schedule::Cosine,
        };
        Self {
            work: Some(work),
            batch_size: local.batch_size as u64,
            learning_rate: local.learning_rate,
            optimizer: Some(optimizer),
            schedule: schedule.into(),
            warmup_ratio: local.warmup_ratio,
            max_grad_norm: local.max_grad_norm,
            lora_dropout: local.lora_dropout,
            proximal_mu: local.proximal_mu,
            privacy: local.privacy.map(wire::PrivacyTerms::from),
            loraplus_lr_ratio: local.loraplus_lr_ratio,
        }
    }
}

impl TryFrom<wire::LocalHyperparameters> for LocalHyperparameters {
    type Error = ProtoError;

    fn try_from(message: wire::LocalHyperparameters) -> Result<Self, ProtoError> {
        let work = match required("LocalHyperparameters", "work", message.work)? {
            Work::Epochs(epochs) => LocalWork::Epochs(epochs),
            Work::Steps(steps) => LocalWork::Steps(steps),
        };
        let optimizer = match required("LocalHyperparameters", "optimizer", message.optimizer)? {
            WireOptimizer::Sgd(sgd) => Optimizer::Sgd {
                momentum: unit("momentum", sgd.momentum)?,
                weight_decay: not_negative("weight_decay", sgd.weight_decay)?,
            },
            WireOptimizer::Adamw(adamw) => Optimizer::Adamw {
                beta_1: unit("beta_1", adamw.beta_1)?,
                beta_2: unit("beta_2", adamw.beta_2)?,
                epsilon: not_negative("epsilon", adamw.epsilon)?,
                weight_decay: not_negative("weight_decay", adamw.weight_decay)?,
            },
        };
        Ok(Self {
            work,
            batch_size: at_least_one("batch_size", message.batch_size)?,
            learning_rate: not_negative("learning_rate", message.learning_rate)?,
            optimizer,
            schedule: schedule(message.schedule)?,
            warmup_ratio: unit("warmup_ratio", message.warmup_ratio)?,
            max_grad_norm: not_negative("max_grad_norm", message.max_grad_norm)?,
            lora_dropout: unit("lora_dropout", message.lora_dropout)?,
            proximal_mu: not_negative("proximal_mu", message.proximal_mu)?,
            privacy: message.privacy.map(PrivacyTerms::try_from).transpose()?,
            // Coordinators that do not know it send nothing, which is 0.
            loraplus_lr_ratio: match not_negative("loraplus_lr_ratio", message.loraplus_lr_ratio)? {
                0.0 => 1.0,
                ratio => ratio,
            },
        })
    }
}

impl From<PrivacyTerms> for wire::PrivacyTerms {
    fn from(terms: PrivacyTerms) -> Self {
        let noise = match terms.noise() {
            NoiseLevel::Multiplier(multiplier) => Noise::NoiseMultiplier(multiplier),
            NoiseLevel::Target { epsilon, participations } => {
                Noise::Target(wire::PrivacyTarget { epsilon, participations: participations.unwrap_or(0) })
            }
        };
        let clipping = match terms.clipping() {
            GradientClipping::Flat => wire::GradientClipping::Flat,
            GradientClipping::PerLayer => wire::GradientClipping::PerLayer,
            GradientClipping::Adaptive => wire::GradientClipping::Adaptive,
        };
        let noise_kind = match terms.noise_kind() {
            NoiseKind::Grid => wire::NoiseKind::Grid,
            NoiseKind::Fast => wire::NoiseKind::Fast,
        };
        Self {
            max_grad_norm: terms.max_grad_norm(),
            noise: Some(noise),
            delta: terms.delta(),
            clipping: clipping.into(),
            noise_kind: noise_kind.into(),
        }
    }
}

impl TryFrom<wire::PrivacyTerms> for PrivacyTerms {
    type Error = ProtoError;

    fn try_from(message: wire::PrivacyTerms) -> Result<Self, ProtoError> {
        let noise = match required("PrivacyTerms", "noise", message.noise)? {
            Noise::NoiseMultiplier(multiplier) => NoiseLevel::Multiplier(multiplier),
            Noise::Target(wire::PrivacyTarget { epsilon, participations }) => {
                let participations = (participations > 0).then_some(participations);
                NoiseLevel::Target { epsilon, participations }
            }
        };
        let (clipping, noise_kind) = (clipping(message.clipping)?, noise_kind(message.noise_kind)?);
        let terms = Self::new(noise, message.max_grad_norm, message.delta);
        terms.map(|terms| terms.with(clipping, noise_kind)).map_err(|error| match error {
            PrivacyTermsError::Range { key, found, .. } => {
                ProtoError::OutOfRange { field: key, found: found.to_string() }
            }
            other => ProtoError::OutOfRange { field: "privacy", found: other.to_string() },
        })
    }
}

// What this client does not know it must not replace by something weaker.
fn clipping(found: i32) -> Result<GradientClipping, ProtoError> {
    match wire::GradientClipping::try_from(found) {
        Ok(wire::GradientClipping::Flat) => Ok(GradientClipping::Flat),
        Ok(wire::GradientClipping::PerLayer) => Ok(GradientClipping::PerLayer),
        Ok(wire::GradientClipping::Adaptive) => Ok(GradientClipping::Adaptive),
        Err(_) => Err(ProtoError::UnknownValue { field: "clipping", found }),
    }
}

fn noise_kind(found: i32) -> Result<NoiseKind, ProtoError> {
    match wire::NoiseKind::try_from(found) {
        Ok(wire::NoiseKind::Grid) => Ok(NoiseKind::Grid),
        Ok(wire::NoiseKind::Fast) => Ok(NoiseKind::Fast),
        Err(_) => Err(ProtoError::UnknownValue { field: "noise_kind", found }),
    }
}

fn schedule(found: i32) -> Result<Schedule, ProtoError> {
    match wire::Schedule::try_from(found) {
        Ok(wire::Schedule::Constant) => Ok(Schedule::Constant),
        Ok(wire::Schedule::Linear) => Ok(Schedule::Linear),
        Ok(wire::Schedule::Cosine) => Ok(Schedule::Cosine),
        Ok(wire::Schedule::Unspecified) | Err(_) => Err(ProtoError::UnknownValue { field: "schedule", found }),
    }
}

fn at_least_one(field: &'static str, value: u64) -> Result<usize, ProtoError> {
    if value == 0 {
        return Err(ProtoError::OutOfRange { field, found: "0".to_owned() });
    }
    size(field, value)
}

fn not_negative(field: &'static str, value: f64) -> Result<f64, ProtoError> {
    in_range(field, value, value.is_finite() && value >= 0.0)
}

/// At least 0 and below 1.
fn unit(field: &'static str, value: f64) -> Result<f64, ProtoError> {
    in_range(field, value, (0.0..1.0).contains(&value))
}

fn in_range(field: &'static str, value: f64, ok: bool) -> Result<f64, ProtoError> {
    ok.then_some(value).ok_or(ProtoError::OutOfRange { field, found: value.to_string() })
}
