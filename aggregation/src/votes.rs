//! One client, one vote: for methods that rely on no single client.
//!
//! Weights are what clients say of themselves, such as their numbers of examples. Whoever may lie about an update may lie
//! about its weight too, and a single large one would outvote everybody; so methods that are to withstand a minority of
//! clients do not look at weights, except that a client of weight zero has no vote.

use fedlora_adapter::{LoraFactors, Side, Tensor, TensorSource};

use crate::{AggregationError, Contribution, Updates};

/// Fewest votes that can be told apart: of four, one liar is a quarter, and what is left after it and its counterpart on
/// the other side are put away is two clients that may disagree as much as they like.
pub(crate) const FEWEST: usize = 5;

/// Checks a number of votes.
///
/// # Errors
/// [`AggregationError::TooFewUpdates`] below `needed`, and below five in any case.
pub(crate) fn require(method: &'static str, found: usize, needed: usize) -> Result<(), AggregationError> {
    let needed = needed.max(FEWEST);
    if found < needed { Err(AggregationError::TooFewUpdates { method, found, needed }) } else { Ok(()) }
}

/// The same share for everybody.
pub(crate) fn equal_shares(updates: &Updates<'_>) -> Vec<f64> {
    vec![(updates.len() as f64).recip(); updates.len()]
}

/// Both factors, each by a rule that looks at one tensor of all clients.
///
/// # Errors
/// Those of the rule.
pub(crate) fn by_tensor(
    previous: &LoraFactors,
    contributions: &[Contribution<'_>],
    rule: impl Fn(&Tensor, &[TensorSource<'_>]) -> Result<Tensor, AggregationError>,
) -> Result<LoraFactors, AggregationError> {
    let side = |side| {
        let sources: Vec<_> = contributions.iter().map(|one| one.side(side)).collect();
        rule(previous.side(side), &sources)
    };
    Ok(LoraFactors { a: side(Side::A)?, b: side(Side::B)? })
}

/// The tensors without their shares.
pub(crate) fn without_shares<'a>(contributions: &[(f64, TensorSource<'a>)]) -> Vec<TensorSource<'a>> {
    contributions.iter().map(|&(_, source)| source).collect()
}
