//! One optimiser step of a cohort: forward, backward, proximal term, clipping, update.

use burn::tensor::Tensor;
use fedlora_adapter::Seed;

use super::{cohort::Cohort, flat, loss, schedule};
use crate::{
    DropoutMasks, LearnerError,
    evaluate::{check_labels, read},
};

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
        let (losses, gradient, predictions) = self.gradient()?;
        let norms = self.record(losses, &gradient, &predictions)?;
        Ok(self.clip(gradient, &norms))
    }

    /// Losses of all predictions, the gradient `[G, N]` of each member's mean loss, and the members' numbers of predictions.
    fn gradient(&mut self) -> Result<(Tensor<1>, Tensor<2>, Vec<usize>), LearnerError> {
        let (mut rows, mut examples) = (Vec::new(), Vec::with_capacity(self.members.len()));
        for member in &mut self.members {
            let own = member.batches.next_rows();
            rows.extend_from_slice(own);
            examples.push(own.len());
        }
        let batch = self.shared.dataset.batch(&rows);
        self.adapters.set_examples(examples.clone());
        let logits = self.shared.model.forward(&batch, &self.adapters, Some(&mut self.dropout_masks()));
        check_labels(batch.targets.ids(), logits.dims()[1])?;
        let predictions = batch.targets.predictions(&examples);
        let losses = loss::cross_entropy(logits, batch.targets.ids());
        let objective = loss::weighted(losses.clone(), &predictions).sum();
        let gradient = flat::gradients(&self.adapters, &mut objective.backward());
        Ok((losses.inner(), self.with_proximal_term(gradient), predictions))
    }

    /// This step's masks; none are drawn at rate 0.
    fn dropout_masks(&self) -> DropoutMasks {
        let clients = self.members.iter().map(|member| (member.client, member.step));
        DropoutMasks::new(self.plan.local.lora_dropout, Seed(self.plan.seed), self.plan.round, clients)
    }

    /// Adds the gradient of `mu/2·‖theta - theta_start‖²` (FedProx, arXiv 1812.06127, eq. 2).
    pub(super) fn with_proximal_term(&self, gradient: Tensor<2>) -> Tensor<2> {
        let mu = self.plan.local.proximal_mu;
        if mu == 0.0 {
            return gradient;
        }
        gradient + (self.values.clone() - self.anchor.clone()).mul_scalar(mu)
    }

    /// Books the losses and returns the gradients' norms; one read-back for both.
    fn record(
        &mut self,
        losses: Tensor<1>,
        gradient: &Tensor<2>,
        predictions: &[usize],
    ) -> Result<Vec<f64>, LearnerError> {
        let numbers = read(Tensor::cat(vec![losses, flat::squared_norms(gradient)], 0))?;
        let (losses, squared_norms) = numbers.split_at(predictions.iter().sum());
        let norms: Vec<f64> = squared_norms.iter().map(|&squared| f64::from(squared).sqrt()).collect();
        let mut rest = losses;
        for ((member, &count), norm) in self.members.iter_mut().zip(predictions).zip(&norms) {
            let (own, later) = rest.split_at(count);
            rest = later;
            let loss = own.iter().copied().map(f64::from).sum::<f64>() / count as f64;
            if !(loss.is_finite() && norm.is_finite()) {
                let (client, round, step) = (member.client, self.plan.round, member.step);
                member.failure = Some(LearnerError::Diverged { client, round, step });
            }
            member.losses += loss;
            member.last_loss = loss;
        }
        Ok(norms)
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
