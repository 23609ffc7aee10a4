//! The registry of adapter kinds: what is adapted how, what PEFT calls it, and when a plain mean of clients is exact.

use crate::{AdapterKind, Factors};

/// When the mean of the clients' tensors is the mean of what they do to the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Averaging {
    /// Always: the change is linear in the only factor that is trained.
    Exact,
    /// Where one of the two factors is the same for all clients: the change is linear in the other one.
    ExactWithOneFactor,
    /// Never: the change is linear in no tensor by itself.
    Inexact,
}

/// A kind as it is known to users.
#[derive(Debug, Clone, Copy)]
pub struct KindRow {
    /// The kind.
    pub kind: AdapterKind,
    /// Its usual name.
    pub name: &'static str,
    /// Title of its paper.
    pub title: &'static str,
    /// The paper's arXiv number.
    pub arxiv: &'static str,
    /// `peft_type` in `adapter_config.json`.
    pub peft_type: &'static str,
    /// The key of `adapter_config.json` that tells it from others of the same type, and its value there, in JSON.
    pub peft_key: Option<(&'static str, &'static str)>,
    /// Factors that training may change; the others are the adapter's constants, which no client sends.
    pub trained: Factors,
    /// When a plain mean is exact.
    pub averaging: Averaging,
    /// Whether its first values come from the frozen weights.
    pub needs_weights: bool,
}

/// Every kind.
pub const KINDS: &[KindRow] = &[
    KindRow {
        kind: AdapterKind::Lora,
        name: "LoRA",
        title: "LoRA: Low-Rank Adaptation of Large Language Models",
        arxiv: "2106.09685",
        peft_type: "LORA",
        peft_key: None,
        trained: Factors::Both,
        averaging: Averaging::ExactWithOneFactor,
        needs_weights: false,
    },
    KindRow {
        kind: AdapterKind::Vera,
        name: "VeRA",
        title: "VeRA: Vector-based Random Matrix Adaptation",
        arxiv: "2310.11454",
        peft_type: "VERA",
        peft_key: None,
        trained: Factors::Both,
        averaging: Averaging::ExactWithOneFactor,
        needs_weights: false,
    },
    KindRow {
        kind: AdapterKind::Olora,
        name: "OLoRA",
        title: "OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models",
        arxiv: "2406.01775",
        peft_type: "LORA",
        peft_key: Some(("init_lora_weights", "\"olora\"")),
        trained: Factors::Both,
        averaging: Averaging::ExactWithOneFactor,
        needs_weights: true,
    },
    KindRow {
        kind: AdapterKind::Dora,
        name: "DoRA",
        title: "DoRA: Weight-Decomposed Low-Rank Adaptation",
        arxiv: "2402.09353",
        peft_type: "LORA",
        peft_key: Some(("use_dora", "true")),
        trained: Factors::Both,
        averaging: Averaging::Inexact,
        needs_weights: true,
    },
    KindRow {
        kind: AdapterKind::LoraXs,
        name: "LoRA-XS",
        title: "LoRA-XS: Low-Rank Adaptation with Extremely Small Number of Parameters",
        arxiv: "2405.17604",
        // As a plain LoRA whose B is the product of the two left factors.
        peft_type: "LORA",
        peft_key: None,
        trained: Factors::B,
        averaging: Averaging::Exact,
        needs_weights: true,
    },
];

impl AdapterKind {
    /// Its row in [`KINDS`].
    #[must_use]
    pub fn row(self) -> &'static KindRow {
        // Bounds: a test finds every kind's row; the first one stands for a kind that lacks its own.
        KINDS.iter().find(|row| row.kind == self).unwrap_or(&KINDS[0])
    }

    /// Whether its factors are the matrices `A` and `B`, whose product is a change of the weight.
    #[must_use]
    pub fn has_matrices(self) -> bool {
        match self {
            Self::Lora | Self::Olora | Self::Dora => true,
            Self::Vera | Self::LoraXs => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row() {
        let kinds = [AdapterKind::Lora, AdapterKind::Vera, AdapterKind::Olora, AdapterKind::Dora, AdapterKind::LoraXs];
        for kind in kinds {
            assert_eq!(KINDS.iter().filter(|row| row.kind == kind).count(), 1);
            assert_eq!(kind.row().kind, kind);
        }
    }
}
