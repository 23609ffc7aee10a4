//! What clients do in a round, as data: a deployed client needs no upgrade for a new server method.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::AdapterKind;

/// One of the two factors of an adapted module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// `A`, `r x d_in`; for VeRA the vector `lambda_d`.
    A,
    /// `B`, `d_out x r`; for VeRA the vector `lambda_b`.
    B,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Side::A { "A" } else { "B" })
    }
}

/// A set of factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Factors {
    /// No factor: nothing travels (local training, the reference row of a comparison).
    Neither,
    /// The `A` side only.
    A,
    /// The `B` side only.
    B,
    /// Both sides.
    Both,
}

impl Factors {
    /// Whether `side` is in the set.
    #[must_use]
    pub fn contains(self, side: Side) -> bool {
        matches!((self, side), (Self::Both, _) | (Self::A, Side::A) | (Self::B, Side::B))
    }

    /// The factors that are in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match [Side::A, Side::B].map(|side| self.contains(side) && other.contains(side)) {
            [true, true] => Self::Both,
            [true, false] => Self::A,
            [false, true] => Self::B,
            [false, false] => Self::Neither,
        }
    }
}

/// What happens to the extra, fully trained tensors (the classification head).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadPolicy {
    /// Stays at its common initial values.
    Frozen,
    /// Trained, sent and averaged.
    Shared,
    /// Trained and kept by each client.
    Personal,
}

/// A method's instructions to its clients for one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// Factors that local training changes; the rest are frozen.
    pub train: Factors,
    /// Factors that clients send to the server.
    pub upload: Factors,
    /// Factors that clients take from the server. A factor that is trained but not taken stays the client's own.
    pub download: Factors,
    /// What happens to the head.
    pub head: HeadPolicy,
}

impl Directive {
    /// What it comes to for adapters of a kind: the kind's constants are neither trained nor sent, whatever a method asks
    /// for. They are still taken from the server, for a client that joins late has no other way to know them.
    #[must_use]
    pub fn of_kind(self, kind: AdapterKind) -> Self {
        let trained = kind.row().trained;
        Self { train: self.train.and(trained), upload: self.upload.and(trained), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kinds_constants_are_neither_trained_nor_sent() {
        let all = [Factors::Neither, Factors::A, Factors::B, Factors::Both];
        for (train, upload) in all.into_iter().flat_map(|train| all.map(|upload| (train, upload))) {
            let asked = Directive { train, upload, download: Factors::Both, head: HeadPolicy::Shared };
            assert_eq!(asked.of_kind(AdapterKind::Lora), asked);
            let found = asked.of_kind(AdapterKind::LoraXs);
            let of_b = |asked: Factors| if asked.contains(Side::B) { Factors::B } else { Factors::Neither };
            assert_eq!(found, Directive { train: of_b(train), upload: of_b(upload), ..asked });
        }
    }
}
