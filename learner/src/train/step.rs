//! One optimiser step of a cohort: forward, backward, proximal term, clipping, update.

use burn::tensor::Tensor;
use fedlora_adapter::Seed;

use super::{
    cohort::{Cohort, Member},
    flat, loss,
    part::{Part, Place},
    schedule,
};
use crate::{
    DropoutMasks, LearnerError,
    dropout::stream,
    evaluate::{check_labels, read},
};

/// What a step's passes come to.
#[derive(Debug)]
struct Found {
    /// `[G, N]`, of each member's mean loss.
    gradient: Tensor<2>,
    /// Each member's mean loss.
    losses: Vec<f64>,
    /// The norm of each member's gradient.
    norms: Vec<f64>,
}

impl Cohort<'_> {
    /// One step of every member. A member whose loss or gradient is not a finite number is marked as failed.
    pub(super) fn step(&mut self) -> Result<(), LearnerError> {
        let gradient = match self.plan.local.privacy {
            Some(_) => self.private_gradient()?,
            None => self.plain_gradient()?,
        };
        let rates =
            flat::column(self.members.iter().map(|member| self.rate(member.step, member.steps)), &gradient.device());
        let rates = match &self.rate_ratios {
            Some(ratios) => rates * ratios.clone(),
            None => rates,
        };
        let values = self.optimizer.step(self.values.clone(), gradient, rates);
        flat::set_values(&mut self.adapters, &values);
        self.values = values;
        self.members.iter_mut().for_each(|member| member.step += 1);
        Ok(())
    }

    /// The gradient of each member's mean loss, clipped.
    fn plain_gradient(&mut self) -> Result<Tensor<2>, LearnerError> {
        let (shared, places) = (self.shared, self.places());
        let examples = places.iter().map(Vec::len).max().unwrap_or(0);
        let device = self.values.device();
        let found = shared.pass_size.fit(examples, &device, |most| self.gradient(&places, most))?;
        self.record(&found);
        Ok(self.clip(found.gradient, &found.norms))
    }

    /// The members' next examples.
    fn places(&mut self) -> Vec<Vec<Place>> {
        let own = |member: &mut Member<'_>| {
            let (client, step) = (member.client, member.step);
            // The number in the batch, not in the data: a site's data are its own, a simulation's those of all.
            let rows = member.batches.next_rows().iter().zip(0..);
            rows.map(|(&row, index)| Place { row, mask: (client, stream(step, index)) }).collect()
        };
        self.members.iter_mut().map(own).collect()
    }

    /// The gradient of each member's mean loss, from passes of at most `most` examples of each; one read-back for all
    /// numbers.
    fn gradient(&mut self, places: &[Vec<Place>], most: usize) -> Result<Found, LearnerError> {
        let parts = Part::all(places, most, &self.shared.dataset);
        let mut predictions = vec![0; places.len()];
        for part in &parts {
            predictions.iter_mut().zip(&part.predictions).for_each(|(all, own)| *all += own);
        }
        let mut numbers = Vec::with_capacity(parts.len() + 1);
        let mut sum: Option<Tensor<2>> = None;
        for part in &parts {
            let (losses, gradient) = self.pass(part, &predictions)?;
            numbers.push(losses);
            sum = Some(match sum {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
        // No member is without an example in any step.
        let gradient = self.with_proximal_term(sum.unwrap_or_else(|| self.values.zeros_like()));
        numbers.push(flat::squared_norms(&gradient));
        let mut numbers = read(Tensor::cat(numbers, 0))?.into_iter().map(f64::from);
        let mut losses = vec![0.0; places.len()];
        for part in &parts {
            let own = |&count: &usize| numbers.by_ref().take(count).sum::<f64>();
            losses.iter_mut().zip(part.predictions.iter().map(own)).for_each(|(all, own)| *all += own);
        }
        losses.iter_mut().zip(predictions).for_each(|(loss, count)| *loss /= count as f64);
        Ok(Found { gradient, losses, norms: numbers.map(f64::sqrt).collect() })
    }

    /// One pass: the losses of its predictions, and the part of the gradient that comes from them, where `predictions`
    /// are the members' numbers of predictions in the whole step.
    fn pass(&mut self, part: &Part, predictions: &[usize]) -> Result<(Tensor<1>, Tensor<2>), LearnerError> {
        let targets = part.batch.targets.ids();
        self.adapters.set_examples(part.examples.clone());
        let local = &self.plan.local;
        let streams = part.masks.iter().copied();
        let mut masks = DropoutMasks::new(local.lora_dropout, Seed(self.plan.seed), self.plan.round, streams);
        let logits = self.shared.model.forward(&part.batch, &self.adapters, Some(&mut masks));
        check_labels(targets, logits.dims()[1])?;
        let losses = loss::cross_entropy(logits, targets);
        let objective = loss::weighted(losses.clone(), &part.predictions, predictions).sum();
        let gradient = flat::gradients(&self.adapters, &objective);
        Ok((losses.inner(), gradient))
    }

    /// Adds the gradient of `mu/2·‖theta - theta_start‖²` (FedProx, arXiv 1812.06127, eq. 2).
    pub(super) fn with_proximal_term(&self, gradient: Tensor<2>) -> Tensor<2> {
        let mu = self.plan.local.proximal_mu;
        if mu == 0.0 {
            return gradient;
        }
        gradient + (self.values.clone() - self.anchor.clone()).mul_scalar(mu)
    }

    /// Books the losses.
    fn record(&mut self, found: &Found) {
        for ((member, &loss), norm) in self.members.iter_mut().zip(&found.losses).zip(&found.norms) {
            if !(loss.is_finite() && norm.is_finite()) {
                let (client, round, step) = (member.client, self.plan.round, member.step);
                member.failure = Some(LearnerError::Diverged { client, round, step });
            }
            member.losses += loss;
            member.last_loss = loss;
        }
    }

    /// Scales each member's gradient, all its tensors together, to at most the largest norm allowed.
    fn clip(&self, gradient: Tensor<2>, norms: &[f64]) -> Tensor<2> {
        let limit = self.plan.local.max_grad_norm;
        if limit <= 0.0 || norms.iter().all(|&norm| norm <= limit) {
            return gradient;
        }
        let factors = norms.iter().map(|&norm| if norm > limit { limit / norm } else { 1.0 });
        let factors = flat::column(factors, &gradient.device());
        gradient * factors
    }

    fn rate(&self, step: u64, steps: u64) -> f64 {
        let progress = schedule::progress(self.plan.round, self.plan.num_rounds, step, steps);
        schedule::learning_rate(&self.plan.local, progress)
    }
}
