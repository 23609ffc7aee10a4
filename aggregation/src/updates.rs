//! A round's accepted updates as a method sees them: one module, or one tensor of the head, of all of them at a time.

use fedlora_adapter::{Adapter, ClientId, Directive, LoraFactors, ModuleName, Side, Tensor, TensorSource};

use crate::{AggregationError, Contribution, WeightedUpdate, cohort::Cohort};

/// All updates that count in a round, in client order, and the adapter that training started from.
#[derive(Debug)]
pub struct Updates<'a> {
    previous: &'a Adapter,
    directive: Directive,
    cohort: Cohort<'a>,
}

impl<'a> Updates<'a> {
    pub(crate) fn new(previous: &'a Adapter, directive: Directive, cohort: Cohort<'a>) -> Self {
        Self { previous, directive, cohort }
    }

    /// The global adapter that training started from.
    pub(crate) fn previous(&self) -> &'a Adapter {
        self.previous
    }

    /// What clients were asked for.
    pub(crate) fn directive(&self) -> Directive {
        self.directive
    }

    /// Number of updates.
    pub(crate) fn len(&self) -> usize {
        self.cohort.len()
    }

    /// `p_k` of each update.
    pub(crate) fn shares(&self) -> Vec<f64> {
        self.cohort.iter().map(|(share, _)| share).collect()
    }

    /// The updates whose new share is above 0.
    pub(crate) fn reweighed(self, shares: &[f64]) -> Self {
        Self { cohort: self.cohort.reweighed(shares), ..self }
    }

    /// Lets go of the memory that reading the updates has cost so far.
    pub(crate) fn release(&self) {
        self.cohort.iter().for_each(|(_, update)| update.update.release());
    }

    /// A module of every update; `previous` is that of the global adapter.
    ///
    /// # Errors
    /// An update that lacks a factor that was asked for, or has one of another shape; the error names the module.
    pub(crate) fn module(
        &self,
        name: &ModuleName,
        previous: &'a LoraFactors,
    ) -> Result<Vec<Contribution<'a>>, AggregationError> {
        let contribution = |(share, update)| {
            let a = self.factor(update, name, Side::A, previous)?;
            let b = self.factor(update, name, Side::B, previous)?;
            Ok(Contribution { share, a, b })
        };
        self.cohort
            .iter()
            .map(contribution)
            .collect::<Result<_, AggregationError>>()
            .map_err(|error| error.in_module(name))
    }

    /// What the client sent, or the previous value of a factor that it was not asked for.
    fn factor(
        &self,
        update: &WeightedUpdate<'a>,
        module: &ModuleName,
        side: Side,
        previous: &'a LoraFactors,
    ) -> Result<TensorSource<'a>, AggregationError> {
        let previous = previous.side(side);
        if !self.directive.upload.contains(side) {
            return Ok(TensorSource::Memory(previous.as_ref()));
        }
        let client = update.client;
        let sent = update.update.factor(module, side).ok_or(AggregationError::MissingFactor { client, side })?;
        same_shape(client, previous, sent)
    }

    /// A tensor of the head of every update; `previous` is that of the global adapter.
    ///
    /// # Errors
    /// An update that lacks it or has it in another shape.
    pub(crate) fn head(&self, name: &str, previous: &Tensor) -> Result<Vec<(f64, TensorSource<'a>)>, AggregationError> {
        let contribution = |(share, update): (f64, &WeightedUpdate<'a>)| {
            let client = update.client;
            let missing = || AggregationError::MissingExtra { client, name: name.to_owned() };
            let sent = update.update.extra(name).ok_or_else(missing)?;
            Ok((share, same_shape(client, previous, sent)?))
        };
        self.cohort.iter().map(contribution).collect()
    }
}

/// What was sent, if it has the shape of what is to be replaced.
pub(crate) fn same_shape<'a>(
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
