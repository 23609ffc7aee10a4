//! One private step of a cohort: each unit a group of its own, so that one backward pass gives the gradient of each.

use burn::tensor::{Tensor, TensorData};
use fedlora_adapter::Seed;

use super::{cohort::Cohort, flat, loss, private::Drawn};
use crate::{
    DropoutMasks, LearnerError,
    dropout::stream,
    evaluate::{check_labels, read},
};

/// Examples in one pass, unless a single unit has more. A Poisson sample has no largest size, so memory is bounded here;
/// sums do not depend on it.
const EXAMPLES_AT_A_TIME: usize = 32;

/// One unit of a step.
#[derive(Debug, Clone)]
struct Owned {
    /// Index of the member that owns it.
    owner: usize,
    unit: Drawn,
}

impl Cohort<'_> {
    /// Each member's noised sum of clipped gradients over its expected batch size, `[G, N]`.
    ///
    /// A sample may be empty, and a unit may have a gradient that is not finite; neither shows in the result.
    pub(super) fn private_gradient(&mut self) -> Result<Tensor<2>, LearnerError> {
        let drawn = self.draw()?;
        let [groups, width] = self.values.dims();
        let mut sums = vec![vec![0.0; width]; groups];
        let mut losses = vec![0.0; groups];
        let mut rest = drawn.as_slice();
        while !rest.is_empty() {
            let units = one_pass(rest, EXAMPLES_AT_A_TIME);
            let (shared, device) = (self.shared, self.values.device());
            let examples = rest[..units].iter().map(|drawn| drawn.unit.rows.len()).sum();
            rest = shared.pass_size.fit(examples, &device, |most| {
                let (some, later) = rest.split_at(one_pass(&rest[..units], most));
                self.add_clipped(some, &mut sums, &mut losses)?;
                Ok(later)
            })?;
        }
        let mut gradient = Vec::with_capacity(groups * width);
        for (index, (member, sum)) in self.members.iter_mut().zip(&sums).enumerate() {
            let count = drawn.iter().filter(|drawn| drawn.owner == index).count();
            // For the client's own eyes: nothing of it is sent.
            member.last_loss = losses[index] / count.max(1) as f64;
            member.losses += member.last_loss;
            // `new` gives every member of a private plan its samples and its noise.
            let private = member.private.as_mut().ok_or(LearnerError::NoPrivacy)?;
            gradient.extend(private.release(sum)?);
        }
        let gradient = Tensor::from_data(TensorData::new(gradient, [groups, width]), &self.values.device());
        Ok(self.with_proximal_term(gradient))
    }

    /// The members' samples, one after the other.
    fn draw(&mut self) -> Result<Vec<Owned>, LearnerError> {
        let mut drawn = Vec::new();
        for (owner, member) in self.members.iter_mut().enumerate() {
            let private = member.private.as_mut().ok_or(LearnerError::NoPrivacy)?;
            drawn.extend(private.sample(member.step)?.into_iter().map(|unit| Owned { owner, unit }));
        }
        Ok(drawn)
    }

    /// One pass: adds the clipped gradients and the losses of some units to those of their owners.
    fn add_clipped(&mut self, drawn: &[Owned], sums: &mut [Vec<f64>], losses: &mut [f64]) -> Result<(), LearnerError> {
        let rows: Vec<u32> = drawn.iter().flat_map(|drawn| &drawn.unit.rows).copied().collect();
        let examples: Vec<usize> = drawn.iter().map(|drawn| drawn.unit.rows.len()).collect();
        let batch = self.shared.dataset.batch(&rows);
        let owners: Vec<usize> = drawn.iter().map(|drawn| drawn.owner).collect();
        let adapters = self.adapters.per_example(&owners).with_examples(examples.clone());
        let logits = self.shared.model.forward(&batch, &adapters, Some(&mut self.masks_of_units(drawn)));
        check_labels(batch.targets.ids(), logits.dims()[1])?;
        let predictions = batch.targets.predictions(&examples);
        let loss = loss::weighted(loss::cross_entropy(logits, batch.targets.ids()), &predictions, &predictions);
        let gradients = flat::gradients(&adapters, &loss.clone().sum());
        let (mut gradients, loss) = (read(gradients)?, read(loss.inner())?);
        let width = gradients.len() / drawn.len().max(1);
        let mut loss = loss.into_iter();
        for ((drawn, gradient), count) in drawn.iter().zip(gradients.chunks_mut(width.max(1))).zip(predictions) {
            let private = self.members[drawn.owner].private.as_mut().ok_or(LearnerError::NoPrivacy)?;
            private.add_clipped(gradient, &mut sums[drawn.owner])?;
            losses[drawn.owner] += loss.by_ref().take(count).map(f64::from).sum::<f64>();
        }
        Ok(())
    }

    /// Masks that belong to the unit's examples: if they followed from their place in the sample, one unit more would
    /// change the gradients of all after it, and clipping would bound nothing.
    fn masks_of_units(&self, drawn: &[Owned]) -> DropoutMasks {
        let streams = drawn.iter().flat_map(|drawn| {
            let member = &self.members[drawn.owner];
            drawn.unit.rows.iter().map(|&row| (member.client, stream(member.step, row)))
        });
        DropoutMasks::new(self.plan.local.lora_dropout, Seed(self.plan.seed), self.plan.round, streams)
    }
}

/// How many of some units go through the model in one pass: as many as have so many examples, at least one.
fn one_pass(drawn: &[Owned], most: usize) -> usize {
    let mut examples = 0;
    let fits = drawn.iter().take_while(|drawn| {
        examples += drawn.unit.rows.len();
        examples <= most
    });
    fits.count().max(1)
}
