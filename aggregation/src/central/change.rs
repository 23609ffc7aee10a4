//! What each client changed, tensor by tensor: norms, and sums of clipped changes.
//!
//! Every update is read twice and never held: once for its norm over all tensors, once for the sum.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, Directive, HeadPolicy, LoraFactors, ModuleName, Side, Tensor, TensorSource};
use fedlora_privacy::{ClipBound, factor};
use rayon::prelude::*;

use crate::{AggregationError, WeightedUpdate, updates::same_shape};

/// Elements per read from a file.
const BLOCK: usize = 32 * 1024;
/// Sums that are kept side by side, so that an addition need not wait for the one before it.
const LANES: usize = 8;

/// One tensor that clients send.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Factor(&'a ModuleName, Side),
    Head(&'a str),
}

/// A round's updates as changes of the adapter that training started from.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    previous: &'a Adapter,
    /// What is sent, with its values before.
    places: Vec<(Place<'a>, &'a Tensor)>,
    /// Of each client: its weight, and where its tensors are, in the order of `places`.
    clients: Vec<(f64, Vec<TensorSource<'a>>)>,
}

impl<'a> Changes<'a> {
    /// # Errors
    /// An update that lacks a tensor that was asked for, or has one of another shape.
    pub(super) fn new(
        previous: &'a Adapter,
        directive: Directive,
        updates: &[&'a WeightedUpdate<'a>],
    ) -> Result<Self, AggregationError> {
        let places = places(previous, directive);
        let clients = updates.iter().map(|&update| Ok((update.weight, sources(update, &places)?)));
        let clients = clients.collect::<Result<_, AggregationError>>()?;
        Ok(Self { previous, places, clients })
    }

    /// The sum of all clipped changes by their weights, tensor by tensor, and how many clients were within the bound.
    pub(super) fn clipped_sum(&self, bound: ClipBound) -> Result<(Vec<Vec<f32>>, usize), AggregationError> {
        let norms: Vec<f64> = self
            .clients
            .par_iter()
            .map(|(_, sources)| self.squared_norm(sources))
            .collect::<Result<_, AggregationError>>()?;
        let within = norms.iter().filter(|squared| squared.sqrt() <= bound.value()).count();
        // A change that is not finite contributes nothing: to stop would tell.
        let scales: Vec<f64> = self
            .clients
            .iter()
            .zip(&norms)
            .map(|((weight, _), &squared)| factor(squared, bound).map_or(0.0, |factor| weight * f64::from(factor)))
            .collect();
        let sums = (0..self.places.len()).into_par_iter().map(|place| self.sum(place, &scales));
        Ok((sums.collect::<Result<_, AggregationError>>()?, within))
    }

    fn squared_norm(&self, sources: &[TensorSource<'_>]) -> Result<f64, AggregationError> {
        let mut squares = 0.0;
        for ((_, previous), source) in self.places.iter().zip(sources) {
            let mut block = vec![0.0; BLOCK.min(previous.values().len())];
            for (index, before) in previous.values().chunks(BLOCK).enumerate() {
                squares += squared_change(before, source.block(index * BLOCK, &mut block[..before.len()])?);
            }
            previous.release();
        }
        Ok(squares)
    }

    /// One tensor of the sum, in client order.
    fn sum(&self, place: usize, scales: &[f64]) -> Result<Vec<f32>, AggregationError> {
        let (_, previous) = self.places[place];
        let length = BLOCK.min(previous.values().len());
        let (mut block, mut sums) = (vec![0.0_f32; length], vec![0.0_f64; length]);
        let mut all = Vec::with_capacity(previous.values().len());
        for (index, before) in previous.values().chunks(BLOCK).enumerate() {
            let sums = &mut sums[..before.len()];
            sums.fill(0.0);
            // What counts for nothing is not read: it may not even be finite.
            let counting = self.clients.iter().zip(scales).filter(|(_, scale)| **scale > 0.0);
            for ((_, sources), scale) in counting {
                let after = sources[place].block(index * BLOCK, &mut block[..before.len()])?;
                for ((sum, &before), &after) in sums.iter_mut().zip(before).zip(after) {
                    *sum += scale * (f64::from(after) - f64::from(before));
                }
            }
            all.extend(sums.iter().map(|&sum| sum as f32));
        }
        previous.release();
        Ok(all)
    }

    /// The adapter that training started from, changed by `sum / expected`, in the memory of the sum.
    pub(super) fn add_to_previous(&self, sum: Vec<Vec<f32>>, expected: f64) -> Result<Adapter, AggregationError> {
        let mut modules: BTreeMap<ModuleName, LoraFactors> = self.previous.modules().clone();
        let mut head = self.previous.head().clone();
        for ((place, previous), mut values) in self.places.iter().zip(sum) {
            for (value, &before) in values.iter_mut().zip(previous.values()) {
                *value = (f64::from(before) + f64::from(*value) / expected) as f32;
            }
            let tensor = Tensor::new(previous.shape().to_vec(), values)?;
            previous.release();
            match *place {
                Place::Factor(name, side) => {
                    if let Some(factors) = modules.get_mut(name) {
                        factors.set(side, tensor);
                    }
                }
                Place::Head(name) => drop(head.insert(name.to_owned(), tensor)),
            }
        }
        let changed = Adapter::new(Arc::clone(self.previous.spec()), modules, head)?;
        self.previous.release();
        Ok(changed)
    }
}

fn places<'a>(previous: &'a Adapter, directive: Directive) -> Vec<(Place<'a>, &'a Tensor)> {
    let sides = [Side::A, Side::B].into_iter().filter(|side| directive.upload.contains(*side));
    let of_module = |(name, factors): (&'a ModuleName, &'a LoraFactors)| {
        sides.clone().map(move |side| (Place::Factor(name, side), factors.side(side)))
    };
    let factors = previous.modules().iter().flat_map(of_module);
    let is_shared = directive.head == HeadPolicy::Shared;
    let is_sent = |name: &str| is_shared && !previous.spec().is_constant(name);
    let head =
        previous.head().iter().filter(|(name, _)| is_sent(name)).map(|(name, tensor)| (Place::Head(name), tensor));
    factors.chain(head).collect()
}

fn sources<'a>(
    update: &'a WeightedUpdate<'a>,
    places: &[(Place<'_>, &Tensor)],
) -> Result<Vec<TensorSource<'a>>, AggregationError> {
    let client = update.client;
    let source = |(place, previous): &(Place<'_>, &Tensor)| match *place {
        Place::Factor(module, side) => {
            let sent = update.update.factor(module, side).ok_or(AggregationError::MissingFactor { client, side });
            sent.and_then(|sent| same_shape(client, previous, sent)).map_err(|error| error.in_module(module))
        }
        Place::Head(name) => {
            let missing = || AggregationError::MissingExtra { client, name: name.to_owned() };
            same_shape(client, previous, update.update.extra(name).ok_or_else(missing)?)
        }
    };
    places.iter().map(source).collect()
}

/// `‖after - before‖²` in f64, where squares of f32 cannot overflow.
fn squared_change(before: &[f32], after: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    for (before, after) in before.chunks(LANES).zip(after.chunks(LANES)) {
        for ((lane, &before), &after) in lanes.iter_mut().zip(before).zip(after) {
            let change = f64::from(after) - f64::from(before);
            *lane += change * change;
        }
    }
    lanes.iter().sum()
}
