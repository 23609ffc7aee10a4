//! What the server asks of a client in one round.

use serde::{Deserialize, Serialize};

use crate::{Digest, Directive, PrivacyTerms, RoundId};

/// How much a client trains in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalWork {
    /// Passes over the client's own examples.
    Epochs(u32),
    /// Optimiser steps, whatever the number of examples.
    Steps(u32),
}

/// The client's optimiser, rebuilt in every round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Optimizer {
    /// Stochastic gradient descent with heavy-ball momentum, as in PyTorch.
    Sgd {
        /// Momentum, 0 for none.
        momentum: f64,
        /// L2 penalty added to the gradient.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (arXiv 1711.05101).
    Adamw {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
    },
}

/// How the learning rate falls over the whole run; it follows the global round, not a client's own steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The same rate throughout.
    Constant,
    /// To zero on a line.
    Linear,
    /// To zero on half a cosine.
    Cosine,
}

/// Hyper-parameters of local training, the same for every client of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalHyperparameters {
    /// How much to train.
    pub work: LocalWork,
    /// Examples per optimiser step; in private training their expected number.
    pub batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// How the rate falls.
    pub schedule: Schedule,
    /// Share of all rounds, from the first, in which the rate rises from zero on a line; in [0, 1).
    pub warmup_ratio: f64,
    /// Clip the gradient of all trained tensors together to this norm; 0 for never. Private training clips each example
    /// instead, see [`PrivacyTerms`].
    pub max_grad_norm: f64,
    /// Dropout on the input of the LoRA branch, in [0, 1).
    pub lora_dropout: f64,
    /// Weight of FedProx's `mu/2·‖theta - theta_global‖²` (arXiv 1812.06127, eq. 2); 0 for none.
    pub proximal_mu: f64,
    /// Learning rate of the factors `B` over that of everything else (LoRA+, arXiv 2402.12354, section 4); 1 for plain LoRA.
    ///
    /// Departure from PEFT's optimiser of this name: it takes the biases of heads for factors `B` as well.
    #[serde(default = "one")]
    pub loraplus_lr_ratio: f64,
    /// Train with differential privacy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyTerms>,
}

fn one() -> f64 {
    1.0
}

/// One round's instructions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundPlan {
    /// Name of the run.
    pub run: String,
    /// The round.
    pub round: RoundId,
    /// Rounds of the whole run, for schedules.
    pub num_rounds: u64,
    /// What to train, send and take.
    pub directive: Directive,
    /// Adapter specification that updates must match.
    pub spec: Digest,
    /// Global adapter that training starts from.
    pub base: Digest,
    /// Seed of the run; every random choice derives from it, the round, the client and the purpose.
    pub seed: u64,
    /// How to train.
    pub local: LocalHyperparameters,
}
