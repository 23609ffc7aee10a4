//! Several clients trained in one pass over the shared, frozen model.
//!
//! Client `g` owns group `g` of every factor and its own rows of every batch, so its values follow from its own data
//! alone. A client that has taken all its steps leaves the cohort, and the others go on in a smaller group.

use std::sync::Arc;

use burn::tensor::Tensor;
use fedlora_adapter::{Adapter, ClientId, HeadPolicy, RoundPlan, Seed};

use super::{batches::Batches, flat, memory::PassSize, optimizer::GroupOptimizer, private::Private};
use crate::{Dataset, GroupedAdapter, Job, LearnerError, LocalOutcome, Model, Watch};

/// Each finished member's place and what became of it.
pub(super) type Results = Vec<(usize, Result<LocalOutcome, LearnerError>)>;

/// What all cohorts on one device share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) model: Arc<dyn Model>,
    pub(super) dataset: Arc<Dataset>,
    pub(super) watch: Watch,
    pub(super) pass_size: PassSize,
    pub(super) gradient_checkpointing: bool,
}

impl Shared {
    /// A device's part: the model on it, and the examples.
    pub(super) fn new(model: Arc<dyn Model>, dataset: Arc<Dataset>) -> Self {
        let (watch, pass_size) = (Watch::default(), PassSize::new(0));
        Self { model, dataset, watch, pass_size, gradient_checkpointing: false }
    }

    /// The same on another device.
    pub(super) fn on(&self, model: Arc<dyn Model>) -> Self {
        Self {
            model,
            dataset: Arc::clone(&self.dataset),
            watch: self.watch.clone(),
            pass_size: PassSize::new(self.pass_size.get()),
            gradient_checkpointing: self.gradient_checkpointing,
        }
    }
}

/// One client in a cohort.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// Where its result goes.
    pub(super) place: usize,
    pub(super) client: ClientId,
    pub(super) start: &'a Adapter,
    pub(super) batches: Batches,
    /// Samples and noise, if training is private.
    pub(super) private: Option<Private>,
    pub(super) examples: usize,
    /// Steps taken and to take.
    pub(super) step: u64,
    pub(super) steps: u64,
    pub(super) losses: f64,
    pub(super) last_loss: f64,
    /// Why it cannot go on.
    pub(super) failure: Option<LearnerError>,
}

/// Clients of one round in training.
#[derive(Debug)]
pub(super) struct Cohort<'a> {
    pub(super) shared: &'a Shared,
    pub(super) plan: &'a RoundPlan,
    pub(super) members: Vec<Member<'a>>,
    pub(super) adapters: GroupedAdapter,
    /// Trained values `[G, N]`.
    pub(super) values: Tensor<2>,
    /// The values at the start of the round, for the proximal term.
    pub(super) anchor: Tensor<2>,
    pub(super) optimizer: GroupOptimizer,
    /// What the values' learning rates are multiplied by, `[1, N]`; none where all are 1.
    pub(super) rate_ratios: Option<Tensor<2>>,
}

impl<'a> Member<'a> {
    /// A client with the given rows, before its first step.
    pub(super) fn new(place: usize, job: &'a Job, rows: &[u32], private: Option<Private>) -> Self {
        let (plan, client) = (&job.plan, job.client);
        Self {
            place,
            client,
            start: &job.start,
            batches: Batches::new(rows, plan.local.batch_size, Seed(plan.seed), plan.round, client),
            private,
            examples: rows.len(),
            step: 0,
            steps: super::batches::steps(&plan.local, rows.len()),
            losses: 0.0,
            last_loss: 0.0,
            failure: None,
        }
    }

    fn outcome(&self, adapter: Adapter) -> LocalOutcome {
        LocalOutcome {
            adapter,
            examples: self.examples as u64,
            steps: self.step,
            train_loss: self.losses / self.step.max(1) as f64,
            last_loss: self.last_loss,
            // The steps are fewer than those that were checked before.
            spent: self.private.as_ref().and_then(|private| private.spent(self.step).ok()),
        }
    }
}

impl<'a> Cohort<'a> {
    /// A cohort at the start of its round; there must be at least one member.
    pub(super) fn new(shared: &'a Shared, plan: &'a RoundPlan, members: Vec<Member<'a>>) -> Result<Self, LearnerError> {
        let adapters = grouped(shared, plan, &members)?;
        let values = flat::values(&adapters);
        let optimizer = GroupOptimizer::new(plan.local.optimizer);
        let rate_ratios = flat::rate_ratios(&adapters, plan.local.loraplus_lr_ratio);
        Ok(Self { shared, plan, members, adapters, anchor: values.clone(), values, optimizer, rate_ratios })
    }

    /// Trains every member to its end; the results come with their places, in no particular order.
    pub(super) fn run(mut self) -> Result<Results, LearnerError> {
        let mut results = Vec::with_capacity(self.members.len());
        loop {
            self.dismiss(&mut results)?;
            if self.members.is_empty() {
                return Ok(results);
            }
            if self.shared.watch.is_cancelled() {
                let cancelled = |member: &Member<'_>| (member.place, Err(LearnerError::Cancelled));
                results.extend(self.members.iter().map(cancelled));
                return Ok(results);
            }
            self.step()?;
            self.shared.watch.count(self.members.len() as u64);
        }
    }

    /// Takes out the members that are done or cannot go on.
    fn dismiss(&mut self, results: &mut Results) -> Result<(), LearnerError> {
        let leaves = |member: &Member<'_>| member.failure.is_some() || member.step == member.steps;
        if !self.members.iter().any(leaves) {
            return Ok(());
        }
        let (done, stay): (Vec<usize>, Vec<usize>) =
            (0..self.members.len()).partition(|&index| leaves(&self.members[index]));
        let values = flat::select(self.values.clone(), &done);
        let (leaving, members) = std::mem::take(&mut self.members).into_iter().partition(leaves);
        self.members = members;
        results.extend(self.outcomes(leaving, &values)?);
        self.regroup(&stay)
    }

    /// Results of members whose values are the rows of `values`.
    fn outcomes(&self, members: Vec<Member<'a>>, values: &Tensor<2>) -> Result<Results, LearnerError> {
        let one = |(row, mut member): (usize, Member<'a>)| {
            if let Some(failure) = member.failure.take() {
                return Ok((member.place, Err(failure)));
            }
            let mut adapters = grouped(self.shared, self.plan, std::slice::from_ref(&member))?;
            flat::set_values(&mut adapters, &flat::select(values.clone(), &[row]));
            // A last step may leave the finite numbers although its gradient was one: that is this member's failure.
            let adapter = adapters.to_adapters().map(|adapters| adapters.into_iter().next());
            let diverged =
                || LearnerError::Diverged { client: member.client, round: self.plan.round, step: member.step };
            Ok((member.place, adapter.and_then(|adapter| adapter.ok_or_else(diverged)).map(|a| member.outcome(a))))
        };
        members.into_iter().enumerate().map(one).collect()
    }

    /// Goes on with the members that are left, whose former rows are given.
    fn regroup(&mut self, rows: &[usize]) -> Result<(), LearnerError> {
        if rows.is_empty() {
            return Ok(());
        }
        let keep = |tensor| flat::select(tensor, rows);
        self.values = keep(self.values.clone());
        self.anchor = keep(self.anchor.clone());
        self.optimizer.keep(keep);
        self.adapters = grouped(self.shared, self.plan, &self.members)?;
        flat::set_values(&mut self.adapters, &self.values);
        Ok(())
    }
}

/// The members' adapters as one, at the start of the round.
fn grouped(shared: &Shared, plan: &RoundPlan, members: &[Member<'_>]) -> Result<GroupedAdapter, LearnerError> {
    let starts: Vec<&Adapter> = members.iter().map(|member| member.start).collect();
    let train_head = plan.directive.head != HeadPolicy::Frozen;
    let adapters = GroupedAdapter::new(&starts, plan.directive.train, train_head, &shared.model.device())?;
    Ok(if shared.gradient_checkpointing { adapters.with_gradient_checkpointing() } else { adapters })
}
