//! What a federated method is to the rest of the system.

use std::fmt::Debug;

use fedlora_adapter::{Directive, LoraFactors, RoundId, Side, Tensor, TensorSource};

use crate::{AggregationError, Updates, mean::weighted_mean};

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

    /// Whether it can work with this many updates. Asked before a round is aggregated, and by configurations that know
    /// how many clients a round has.
    ///
    /// # Errors
    /// Too few, with the number that is needed.
    fn check_count(&self, _updates: usize) -> Result<(), AggregationError> {
        Ok(())
    }

    /// Whether the method needs nothing of the clients but the mean of what they send, so that one mean with noise serves
    /// in place of all updates.
    fn needs_only_mean(&self) -> bool {
        true
    }

    /// How much each update counts, judged by the whole of it; by default as much as it weighs.
    ///
    /// One share per update, in client order; they sum to one. An update of share 0 is left out of everything below.
    ///
    /// # Errors
    /// An update that cannot be read, or that lacks something.
    fn shares(&self, updates: &Updates<'_>) -> Result<Vec<f64>, AggregationError> {
        Ok(updates.shares())
    }

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

    /// One tensor of a shared head, from the shares and the same tensor of every update; by default their mean.
    ///
    /// As for [`Strategy::combine`]: not empty, sorted by client, all of the shape of `previous`, and so is the result.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    fn combine_head(
        &self,
        previous: &Tensor,
        contributions: &[(f64, TensorSource<'_>)],
    ) -> Result<Tensor, AggregationError> {
        Ok(Tensor::new(previous.shape().to_vec(), weighted_mean(contributions)?)?)
    }
}
