//! A trainer with a known answer, for tests and benchmarks of everything around training.
//!
//! Each client's loss is `½·‖theta - target‖²` over the factors that the directive trains, minimised by gradient
//! descent. The round is then a linear map, so that the result of any number of rounds can be computed by hand.

use std::{collections::BTreeMap, convert::Infallible};

use fedlora_adapter::{Adapter, ClientId, Directive, HeadPolicy, LoraFactors, Side, Tensor};

use crate::trainer::{Job, LocalOutcome, Trainer};

/// Pulls each client's adapter towards that client's target, or returns it as it came.
#[derive(Debug, Clone, Default)]
pub struct ToyTrainer {
    targets: BTreeMap<ClientId, Target>,
    rate: f32,
    steps: u32,
}

#[derive(Debug, Clone)]
struct Target {
    adapter: Adapter,
    examples: u64,
}

impl ToyTrainer {
    /// A trainer that returns what it received, as if each client had one example. It costs one copy of the adapter.
    #[must_use]
    pub fn idle() -> Self {
        Self::default()
    }

    /// A trainer that takes `steps` steps `theta ← theta - rate·(theta - target)` in a round.
    ///
    /// Rates in (0, 2) converge; rate 1 lands on the target at the first step.
    #[must_use]
    pub fn new(rate: f32, steps: u32) -> Self {
        Self { targets: BTreeMap::new(), rate, steps }
    }

    /// Gives a client its optimum and its number of examples. Clients without a target return what they received,
    /// and so does a client whose target has another specification than its job.
    #[must_use]
    pub fn with_target(mut self, client: ClientId, adapter: Adapter, examples: u64) -> Self {
        self.targets.insert(client, Target { adapter, examples });
        self
    }

    fn outcome(&self, job: &Job) -> LocalOutcome {
        let target = self.targets.get(&job.client).filter(|target| target.adapter.spec() == job.start.spec());
        let Some(target) = target else {
            let adapter = copied(&job.start);
            return LocalOutcome { adapter, examples: 1, steps: 0, train_loss: 0.0, last_loss: 0.0, spent: None };
        };
        let mut losses = Vec::with_capacity(self.steps as usize);
        let mut adapter = job.start.clone();
        for _ in 0..self.steps {
            let (next, loss) = step(adapter, &target.adapter, job.plan.directive, self.rate);
            adapter = next;
            losses.push(loss);
        }
        LocalOutcome {
            adapter,
            examples: target.examples,
            steps: u64::from(self.steps),
            train_loss: losses.iter().sum::<f64>() / losses.len().max(1) as f64,
            last_loss: losses.last().copied().unwrap_or(0.0),
            spent: None,
        }
    }
}

impl Trainer for ToyTrainer {
    type Error = Infallible;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, Infallible>> {
        jobs.iter().map(|job| Ok(self.outcome(job))).collect()
    }
}

/// The same values in memory of their own, as every trainer that computes something returns them.
fn copied(adapter: &Adapter) -> Adapter {
    let (spec, mut modules, mut head) = adapter.clone().into_parts();
    for tensor in modules.values_mut().flat_map(|own| [&mut own.a, &mut own.b]).chain(head.values_mut()) {
        // Asking for values to change is what parts them from those that the job still shares.
        let _ = tensor.values_mut();
    }
    Adapter::new(spec, modules, head).unwrap_or_else(|_| adapter.clone())
}

/// One step towards the target, and the loss before it.
fn step(adapter: Adapter, target: &Adapter, directive: Directive, rate: f32) -> (Adapter, f64) {
    let unchanged = adapter.clone();
    let (spec, mut modules, mut head) = adapter.into_parts();
    let directive = directive.of_kind(spec.kind);
    let mut loss = 0.0;
    for (factors, goal) in modules.values_mut().zip(target.modules().values()) {
        for side in [Side::A, Side::B] {
            if directive.train.contains(side) {
                loss += pull(side_mut(factors, side), goal.side(side), rate);
            }
        }
    }
    if directive.head != HeadPolicy::Frozen {
        let trained = head.iter_mut().zip(target.head().values()).filter(|((name, _), _)| !spec.is_constant(name));
        loss += trained.map(|((_, own), goal)| pull(own, goal, rate)).sum::<f64>();
    }
    // A diverging rate may leave the finite numbers; the adapter then stays where it was.
    (Adapter::new(spec, modules, head).unwrap_or(unchanged), loss)
}

fn side_mut(factors: &mut LoraFactors, side: Side) -> &mut Tensor {
    match side {
        Side::A => &mut factors.a,
        Side::B => &mut factors.b,
    }
}

/// `own ← own - rate·(own - goal)`; returns `½·‖own - goal‖²` before the step.
fn pull(own: &mut Tensor, goal: &Tensor, rate: f32) -> f64 {
    let mut squares = 0.0;
    for (own, goal) in own.values_mut().iter_mut().zip(goal.values()) {
        let gap = *own - goal;
        squares += f64::from(gap) * f64::from(gap);
        *own -= rate * gap;
    }
    0.5 * squares
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fedlora_adapter::{
        AdapterKind, AdapterSpec, Digest, Factors, LocalHyperparameters, LocalWork, ModuleName, ModuleSpec, Optimizer,
        RoundId, RoundPlan, Schedule,
    };

    use super::*;

    fn constant(value: f32) -> Adapter {
        let modules = BTreeMap::from([(ModuleName::new("layer"), ModuleSpec::new(3, 2))]);
        let head = BTreeMap::from([("classifier.bias".to_owned(), vec![2])]);
        let kind = AdapterKind::Lora;
        let spec = AdapterSpec { kind, rank: 1, alpha: 1.0, use_rslora: false, projection_seed: 0, modules, head };
        let (spec, mut modules, mut head) = Adapter::zeros(Arc::new(spec)).unwrap().into_parts();
        for factors in modules.values_mut() {
            factors.a.values_mut().fill(value);
            factors.b.values_mut().fill(value);
        }
        for tensor in head.values_mut() {
            tensor.values_mut().fill(value);
        }
        Adapter::new(spec, modules, head).unwrap()
    }

    fn job(train: Factors, head: HeadPolicy) -> Job {
        let local = LocalHyperparameters {
            work: LocalWork::Steps(1),
            batch_size: 1,
            learning_rate: 1.0,
            optimizer: Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 },
            schedule: Schedule::Constant,
            warmup_ratio: 0.0,
            max_grad_norm: 0.0,
            lora_dropout: 0.0,
            proximal_mu: 0.0,
            loraplus_lr_ratio: 1.0,
            privacy: None,
        };
        let directive = Directive { train, upload: train, download: train, head };
        let start = constant(8.0);
        let spec = start.spec().digest();
        let plan = RoundPlan {
            run: "toy".to_owned(),
            round: RoundId(1),
            num_rounds: 1,
            directive,
            spec,
            base: Digest::of(b""),
            seed: 1,
            local,
        };
        Job { client: ClientId(1), plan: Arc::new(plan), start }
    }

    #[test]
    fn an_idle_trainer_returns_what_it_received() {
        let job = job(Factors::Both, HeadPolicy::Shared);
        let outcome = ToyTrainer::idle().train(std::slice::from_ref(&job)).remove(0).unwrap();
        assert_eq!(outcome.adapter, job.start);
    }

    #[test]
    fn each_step_halves_the_distance_at_rate_one_half() {
        let mut trainer = ToyTrainer::new(0.5, 3).with_target(ClientId(1), constant(0.0), 7);
        let outcome = trainer.train(&[job(Factors::Both, HeadPolicy::Shared)]).remove(0).unwrap();
        assert_eq!(outcome.adapter, constant(1.0));
        // Seven values: half of 7 · 2².
        assert!((outcome.last_loss - 14.0).abs() < 1e-12);
        assert_eq!((outcome.examples, outcome.steps), (7, 3));
    }

    #[test]
    fn frozen_factors_and_heads_stay() {
        let mut trainer = ToyTrainer::new(1.0, 1).with_target(ClientId(1), constant(0.0), 1);
        let outcome = trainer.train(&[job(Factors::B, HeadPolicy::Frozen)]).remove(0).unwrap();
        let factors = &outcome.adapter.modules()[&ModuleName::new("layer")];
        assert_eq!((factors.a.values(), factors.b.values()), ([8.0; 3].as_slice(), [0.0; 2].as_slice()));
        assert_eq!(outcome.adapter.head(), constant(8.0).head());
    }
}
