//! One round's updates into the next global adapter.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use fedlora_adapter::{
    Adapter, ClientId, Directive, Factors, HeadPolicy, LoraFactors, ModuleName, RoundId, Tensor, UpdateSource,
};
use rayon::prelude::*;

use crate::{AggregationError, Strategy, Updates, cohort::Cohort, residual, residual::Squares};

/// An accepted update and how much it counts.
#[derive(Clone, Copy)]
pub struct WeightedUpdate<'a> {
    /// Who sent it.
    pub client: ClientId,
    /// At least 0; only ratios matter. An update of weight 0 takes no part.
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
    /// clients' products, over the updates that the method lets count. 0 means that averaging lost nothing; for a method
    /// that takes no means, it is how far it stays from the mean.
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
/// No updates or fewer than the method needs, a client that occurs twice, weights that give no shares, an update that
/// lacks a tensor or has one of another shape, a file that cannot be read, a result that is not finite.
pub fn aggregate(
    strategy: &dyn Strategy,
    round: RoundId,
    previous: &Adapter,
    updates: &[WeightedUpdate<'_>],
) -> Result<Aggregated, AggregationError> {
    let cohort = Cohort::new(updates)?;
    strategy.check_count(cohort.len())?;
    let updates = Updates::new(previous, strategy.directive(round), cohort);
    let shares = strategy.shares(&updates)?;
    let updates = updates.reweighed(&shares);
    updates.release();
    let measured = is_residual_defined(&updates) && residual::is_affordable(previous.spec(), updates.len());
    let step = Step { strategy, round, updates, measured, values_read: AtomicUsize::new(0) };
    let combined: Vec<_> = previous.modules().par_iter().map(|(name, factors)| step.module(name, factors)).collect();
    let mut modules = BTreeMap::new();
    let mut squares = Squares::default();
    for (name, combined) in previous.modules().keys().zip(combined) {
        let (factors, part) = combined?;
        modules.insert(name.clone(), factors);
        squares = squares + part;
    }
    let adapter = Adapter::new(Arc::clone(previous.spec()), modules, step.head()?)?;
    Ok(Aggregated { adapter, residual: measured.then(|| squares.relative()) })
}

fn is_residual_defined(updates: &Updates<'_>) -> bool {
    let Directive { train, upload, .. } = updates.directive();
    updates.previous().spec().kind.has_matrices() && train == Factors::Both && upload == Factors::Both
}

/// Values that are read of all updates together, 64 MiB, before the memory that this cost is let go of: mapped files
/// count as memory from the first look at them on, and doing so for every tensor would halve the speed.
const RELEASED_AFTER: usize = 16 * 1024 * 1024;

/// What stays the same for all tensors of a round.
struct Step<'a> {
    strategy: &'a dyn Strategy,
    round: RoundId,
    updates: Updates<'a>,
    measured: bool,
    values_read: AtomicUsize,
}

impl<'a> Step<'a> {
    fn module(&self, name: &ModuleName, previous: &'a LoraFactors) -> Result<(LoraFactors, Squares), AggregationError> {
        let contributions = self.updates.module(name, previous)?;
        let combined = || {
            let combined = self.strategy.combine(self.round, previous, &contributions)?;
            let measured = self.measured.then(|| residual::measure(&contributions, &combined)).transpose()?;
            Ok((combined, measured.unwrap_or_default()))
        };
        let combined = combined().map_err(|error: AggregationError| error.in_module(name));
        self.release(self.updates.len() * (previous.a.values().len() + previous.b.values().len()));
        combined
    }

    /// Counts what was read, and lets go of the updates' memory when enough has come together.
    fn release(&self, read: usize) {
        let before = self.values_read.fetch_add(read, Ordering::Relaxed);
        if before / RELEASED_AFTER != (before + read) / RELEASED_AFTER {
            self.updates.release();
        }
    }

    fn head(&self) -> Result<BTreeMap<String, Tensor>, AggregationError> {
        let previous = self.updates.previous().head();
        if self.updates.directive().head != HeadPolicy::Shared {
            return Ok(previous.clone());
        }
        let combined = |(name, previous): (&String, &Tensor)| {
            let contributions = self.updates.head(name, previous)?;
            Ok((name.clone(), self.strategy.combine_head(previous, &contributions)?))
        };
        previous.iter().map(combined).collect()
    }
}
