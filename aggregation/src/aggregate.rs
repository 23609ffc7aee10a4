//! One round's updates into the next global adapter.

use std::fmt;

use fedlora_adapter::{
    Adapter, ClientId, Directive, Factors, HeadPolicy, LoraFactors, ModuleName, RoundId, Tensor, UpdateSource,
};
use rayon::prelude::*;

use crate::{
    AggregationError, Destination, Part, Strategy, Updates, cohort::Cohort, parts::whole, residual, residual::Squares,
};

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
    let step = |to: &mut dyn Destination| aggregate_into(strategy, round, previous, updates, to);
    let (adapter, residual) = whole(previous.spec(), step)?;
    Ok(Aggregated { adapter, residual })
}

/// As [`aggregate`], but gives the parts of the new adapter away as soon as they are there: no more of it is in memory
/// than `destination` allows. The parts are the same to the bit. Returns the [residual](Aggregated::residual).
///
/// # Errors
/// As [`aggregate`], but for a result that is not finite, which is the destination's to find; errors of the destination.
pub fn aggregate_into(
    strategy: &dyn Strategy,
    round: RoundId,
    previous: &Adapter,
    updates: &[WeightedUpdate<'_>],
    destination: &mut dyn Destination,
) -> Result<Option<f64>, AggregationError> {
    let cohort = Cohort::new(updates)?;
    strategy.check_count(cohort.len())?;
    let updates = Updates::new(previous, strategy.directive(round).of_kind(previous.spec().kind), cohort);
    let shares = strategy.shares(&updates)?;
    let updates = updates.reweighed(&shares);
    updates.release();
    let measured = is_residual_defined(&updates) && residual::is_affordable(previous.spec(), updates.len());
    let squares = Step { strategy, round, updates, measured }.run(destination)?;
    Ok(measured.then(|| squares.relative()))
}

fn is_residual_defined(updates: &Updates<'_>) -> bool {
    let Directive { train, upload, .. } = updates.directive();
    updates.previous().spec().kind.has_matrices() && train == Factors::Both && upload == Factors::Both
}

/// What stays the same for all parts of a round.
struct Step<'a> {
    strategy: &'a dyn Strategy,
    round: RoundId,
    updates: Updates<'a>,
    measured: bool,
}

/// What a part is made from.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Extra(&'a str, &'a Tensor),
    Module(&'a ModuleName, &'a LoraFactors),
}

impl<'a> Step<'a> {
    /// Makes all parts and gives them away; the squares of all modules, added in their order.
    fn run(&self, destination: &mut dyn Destination) -> Result<Squares, AggregationError> {
        let previous = self.updates.previous();
        let extras = previous.head().iter().map(|(name, tensor)| Place::Extra(name, tensor));
        let modules = previous.modules().iter().map(|(name, factors)| Place::Module(name, factors));
        let places: Vec<Place<'a>> = extras.chain(modules).collect();
        let (mut squares, mut done, mut rest) = (Squares::default(), Vec::new(), places.as_slice());
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(self.batch(rest, destination.batch_bytes()));
            rest = others;
            let parts = || batch.par_iter().map(|place| self.part(*place)).collect::<Vec<_>>();
            let (taken, made) = rayon::join(|| destination.take(std::mem::take(&mut done)), parts);
            taken?;
            for made in made {
                let (part, measured) = made?;
                squares = squares + measured;
                done.push(part);
            }
            // Nobody looks at an update now, so that what is let go of is not read a second time.
            self.updates.release();
        }
        destination.take(done)?;
        Ok(squares)
    }

    /// How many of the places are taken at a time. Each costs what is looked at of every update, its result, and as much
    /// again for the result before it that is on its way; no thread is to wait for another.
    fn batch(&self, places: &[Place<'_>], limit_bytes: usize) -> usize {
        let bytes = |place: &Place<'_>| (self.updates.len() + 2).saturating_mul(place.bytes());
        let sums = places.iter().scan(0_usize, |sum, place| {
            *sum = sum.saturating_add(bytes(place));
            Some(*sum)
        });
        let fitting = sums.take_while(|sum| *sum <= limit_bytes).count();
        fitting.max(rayon::current_num_threads()).min(places.len())
    }

    fn part(&self, place: Place<'a>) -> Result<(Part<'a>, Squares), AggregationError> {
        match place {
            Place::Extra(name, previous) => {
                Ok((Part::Extra { name, previous, tensor: self.extra(name, previous)? }, Squares::default()))
            }
            Place::Module(name, previous) => {
                let (factors, squares) = self.module(name, previous)?;
                Ok((Part::Module { name, previous, factors }, squares))
            }
        }
    }

    fn module(&self, name: &ModuleName, previous: &'a LoraFactors) -> Result<(LoraFactors, Squares), AggregationError> {
        let contributions = self.updates.module(name, previous)?;
        let combined = || {
            let combined = self.strategy.combine(self.round, previous, &contributions)?;
            let measured = self.measured.then(|| residual::measure(&contributions, &combined)).transpose()?;
            Ok((combined, measured.unwrap_or_default()))
        };
        combined().map_err(|error: AggregationError| error.in_module(name))
    }

    fn extra(&self, name: &str, previous: &Tensor) -> Result<Tensor, AggregationError> {
        let is_shared = self.updates.directive().head == HeadPolicy::Shared;
        if !is_shared || self.updates.previous().spec().is_constant(name) {
            return Ok(previous.clone());
        }
        self.strategy.combine_head(previous, &self.updates.head(name, previous)?)
    }
}

impl Place<'_> {
    fn bytes(&self) -> usize {
        let values = match self {
            Self::Extra(_, tensor) => tensor.values().len(),
            Self::Module(_, factors) => factors.a.values().len() + factors.b.values().len(),
        };
        values.saturating_mul(size_of::<f32>())
    }
}
