//! One round's updates into the next global adapter.

use std::{collections::BTreeMap, fmt, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, ClientId, Directive, Factors, HeadPolicy, LoraFactors, ModuleName, RoundId, Side, Tensor,
    TensorSource, UpdateSource,
};
use rayon::prelude::*;

use crate::{
    AggregationError, Contribution, Strategy, cohort::Cohort, mean::weighted_mean, residual, residual::Squares,
};

/// An accepted update and how much it counts.
#[derive(Clone, Copy)]
pub struct WeightedUpdate<'a> {
    /// Who sent it.
    pub client: ClientId,
    /// At least 0; only ratios matter.
    pub weight: f64,
    /// What was sent.
    pub update: &'a dyn UpdateSource,
}

impl fmt::Debug for WeightedUpdate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, weight, update: _ } = self;
        f.debug_struct("WeightedUpdate").field("client", client).field("weight", weight).finish_non_exhaustive()
    }
}

/// The outcome of a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregated {
    /// The next global adapter.
    pub adapter: Adapter,
    /// `‖B·A - dW*‖ / ‖dW*‖` in the Frobenius norm over all modules: how far the new product is from the mean of the
    /// clients' products. 0 means that averaging lost nothing.
    ///
    /// Only where it says something: LoRA factors, both of them trained and sent; and only if it costs at most about
    /// 10^9 floating-point operations, which grow with the square of the number of clients. Values below 1e-7 are
    /// rounding: the new factors are stored as f32.
    pub residual: Option<f64>,
}

/// Combines a round's updates into the next global adapter.
///
/// Factors that `strategy` does not ask clients to send are those of `previous`, even if an update has them. The
/// order of `updates` does not matter: they are taken by client.
///
/// # Errors
/// No updates, a client that occurs twice, weights that give no shares, an update that lacks a tensor or has one of
/// another shape, a file that cannot be read, a result that is not finite.
pub fn aggregate(
    strategy: &dyn Strategy,
    round: RoundId,
    previous: &Adapter,
    updates: &[WeightedUpdate<'_>],
) -> Result<Aggregated, AggregationError> {
    let cohort = Cohort::new(updates)?;
    let step = Step { strategy, round, directive: strategy.directive(round), cohort: &cohort };
    let measured = step.is_residual_defined(previous) && residual::is_affordable(previous.spec(), updates.len());
    let combined: Vec<_> =
        previous.modules().par_iter().map(|(name, factors)| step.module(name, factors, measured)).collect();
    let mut modules = BTreeMap::new();
    let mut squares = Squares::default();
    for (name, combined) in previous.modules().keys().zip(combined) {
        let in_module = |source| AggregationError::InModule { module: name.clone(), source: Box::new(source) };
        let (factors, part) = combined.map_err(in_module)?;
        modules.insert(name.clone(), factors);
        squares = squares + part;
    }
    let adapter = Adapter::new(Arc::clone(previous.spec()), modules, step.head(previous)?)?;
    Ok(Aggregated { adapter, residual: measured.then(|| squares.relative()) })
}

/// What stays the same for all tensors of a round.
struct Step<'a> {
    strategy: &'a dyn Strategy,
    round: RoundId,
    directive: Directive,
    cohort: &'a Cohort<'a>,
}

impl Step<'_> {
    fn is_residual_defined(&self, previous: &Adapter) -> bool {
        let Directive { train, upload, .. } = self.directive;
        previous.spec().kind == AdapterKind::Lora && train == Factors::Both && upload == Factors::Both
    }

    fn module(
        &self,
        name: &ModuleName,
        previous: &LoraFactors,
        measured: bool,
    ) -> Result<(LoraFactors, Squares), AggregationError> {
        let contributions = self
            .cohort
            .iter()
            .map(|(share, update)| {
                let a = self.factor(update, name, Side::A, previous)?;
                let b = self.factor(update, name, Side::B, previous)?;
                Ok(Contribution { share, a, b })
            })
            .collect::<Result<Vec<_>, AggregationError>>()?;
        let combined = self.strategy.combine(self.round, previous, &contributions)?;
        let squares = if measured { residual::measure(&contributions, &combined)? } else { Squares::default() };
        Ok((combined, squares))
    }

    /// What the client sent, or the previous value of a factor that it was not asked for.
    fn factor<'b>(
        &self,
        update: &WeightedUpdate<'b>,
        module: &ModuleName,
        side: Side,
        previous: &'b LoraFactors,
    ) -> Result<TensorSource<'b>, AggregationError> {
        let previous = previous.side(side);
        if !self.directive.upload.contains(side) {
            return Ok(TensorSource::Memory(previous.as_ref()));
        }
        let client = update.client;
        let sent = update.update.factor(module, side).ok_or(AggregationError::MissingFactor { client, side })?;
        same_shape(client, previous, sent)
    }

    fn head(&self, previous: &Adapter) -> Result<BTreeMap<String, Tensor>, AggregationError> {
        if self.directive.head != HeadPolicy::Shared {
            return Ok(previous.head().clone());
        }
        previous.head().iter().map(|(name, tensor)| Ok((name.clone(), self.extra(name, tensor)?))).collect()
    }

    fn extra(&self, name: &str, previous: &Tensor) -> Result<Tensor, AggregationError> {
        let sources = self
            .cohort
            .iter()
            .map(|(share, update)| {
                let client = update.client;
                let missing = || AggregationError::MissingExtra { client, name: name.to_owned() };
                let sent = update.update.extra(name).ok_or_else(missing)?;
                Ok((share, same_shape(client, previous, sent)?))
            })
            .collect::<Result<Vec<_>, AggregationError>>()?;
        Ok(Tensor::new(previous.shape().to_vec(), weighted_mean(&sources)?)?)
    }
}

fn same_shape<'a>(
    client: ClientId,
    expected: &Tensor,
    sent: TensorSource<'a>,
) -> Result<TensorSource<'a>, AggregationError> {
    if sent.shape() == expected.shape() {
        return Ok(sent);
    }
    let (expected, found) = (expected.shape().to_vec(), sent.shape().to_vec());
    Err(AggregationError::WrongShape { client, expected, found })
}
