//! What a federated method is to the rest of the system.

use std::fmt::Debug;

use fedlora_adapter::{Directive, LoraFactors, RoundId, Side, TensorSource};

use crate::AggregationError;

/// One client's part in a module of the new global adapter.
#[derive(Debug, Clone, Copy)]
pub struct Contribution<'a> {
    /// `p_k`: shares of all contributions sum to one.
    pub share: f64,
    /// `A_k`, `r x d_in`, or the previous `A` where the directive does not ask for it. VeRA: `lambda_d`, `r`.
    pub a: TensorSource<'a>,
    /// `B_k`, `d_out x r`, or the previous `B` where the directive does not ask for it. VeRA: `lambda_b`, `d_out`.
    pub b: TensorSource<'a>,
}

impl<'a> Contribution<'a> {
    /// One factor.
    #[must_use]
    pub fn side(&self, side: Side) -> TensorSource<'a> {
        match side {
            Side::A => self.a,
            Side::B => self.b,
        }
    }
}

/// A federated method: what clients do, and what the server makes of it.
pub trait Strategy: Debug + Send + Sync {
    /// What clients train, send and take in this round.
    fn directive(&self, round: RoundId) -> Directive;

    /// One module of the new global adapter, from the same module of every accepted update.
    ///
    /// `contributions` is not empty, sorted by client, and every factor has the shape of its counterpart in
    /// `previous`. The result has these shapes too. Equal inputs give equal bytes.
    ///
    /// # Errors
    /// A tensor that cannot be read, or shapes that the method cannot work with.
    fn combine(
        &self,
        round: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError>;
}
