//! What clients do in a round, as data: a deployed client needs no upgrade for a new server method.

use std::fmt;

use serde::{Deserialize, Serialize};

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
