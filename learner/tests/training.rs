//! Laws of local training on a tiny, randomly initialised vision transformer.

mod tiny_vit;

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, ClientId, Digest, Directive, Factors, HeadPolicy, KINDS, LocalHyperparameters,
    LocalWork, Optimizer, Purpose, RoundId, RoundPlan, Schedule, Seed, Tensor,
};
use fedlora_learner::{
    Dataset, EvaluationPlan, Job, LearnerError, LocalOutcome, LocalTrainer, Model, Trainer, evaluate,
};
use rand::RngExt;
use tiny_vit::{LABELS, SIDE, change, model, norm, start};

/// Noise around one bright stripe whose place is the label: a task that a tiny model learns in a few steps.
fn dataset(examples: usize) -> Dataset {
    let mut rng = Seed(5).run(Purpose::Data);
    let labels: Vec<u32> = (0..examples).map(|example| (example % LABELS) as u32).collect();
    let pixel = |label: u32, index: usize, noise: f32| if index / SIDE / 2 == label as usize { 1.0 } else { noise };
    let pixels = labels.iter().flat_map(|&label| (0..SIDE * SIDE).map(move |index| (label, index)));
    let pixels = pixels.map(|(label, index)| pixel(label, index, rng.random::<f32>() * 0.3)).collect();
    let names = (0..LABELS).map(|label| label.to_string()).collect();
    Dataset::images(pixels, SIDE * SIDE, labels, names).unwrap()
}

fn local() -> LocalHyperparameters {
    LocalHyperparameters {
        work: LocalWork::Epochs(2),
        batch_size: 4,
        learning_rate: 0.01,
        optimizer: Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 },
        schedule: Schedule::Cosine,
        warmup_ratio: 0.0,
        max_grad_norm: 1.0,
        lora_dropout: 0.0,
        proximal_mu: 0.0,
        loraplus_lr_ratio: 1.0,
        privacy: None,
    }
}

fn plan(start: &Adapter, local: LocalHyperparameters) -> RoundPlan {
    RoundPlan {
        run: "test".to_owned(),
        round: RoundId(2),
        num_rounds: 8,
        directive: Directive {
            train: Factors::Both,
            upload: Factors::Both,
            download: Factors::Both,
            head: HeadPolicy::Shared,
        },
        spec: start.spec().digest(),
        base: Digest::of(b""),
        seed: 9,
        local,
    }
}

struct World {
    model: Arc<dyn Model>,
    shards: BTreeMap<ClientId, Vec<u32>>,
    start: Adapter,
    dataset: Arc<Dataset>,
}

impl World {
    /// Clients 1 to 5 with 13, 4, 9, 1 and 0 examples.
    fn new() -> Self {
        let dataset = Arc::new(dataset(27));
        let mut rows = 0..27;
        let shards = [13, 4, 9, 1, 0].iter().zip(1..).map(|(&n, id)| (ClientId(id), rows.by_ref().take(n).collect()));
        let model = model();
        Self { shards: shards.collect(), start: start(model.as_ref(), AdapterKind::Lora), model, dataset }
    }

    fn trainer(&self, cohort_size: usize) -> LocalTrainer {
        let (model, dataset) = (Arc::clone(&self.model), Arc::clone(&self.dataset));
        LocalTrainer::new(model, dataset, Arc::new(self.shards.clone())).unwrap().with_cohort_size(cohort_size)
    }

    fn jobs(&self, plan: RoundPlan, clients: &[u64]) -> Vec<Job> {
        let plan = Arc::new(plan);
        let job = |&client: &u64| Job { client: ClientId(client), plan: Arc::clone(&plan), start: self.start.clone() };
        clients.iter().map(job).collect()
    }

    fn train(&self, cohort_size: usize, plan: RoundPlan, clients: &[u64]) -> Vec<LocalOutcome> {
        let results = self.trainer(cohort_size).train(&self.jobs(plan, clients));
        results.into_iter().map(Result::unwrap).collect()
    }

    fn one(&self, local: LocalHyperparameters) -> LocalOutcome {
        self.train(1, plan(&self.start, local), &[1]).remove(0)
    }
}

#[test]
fn clients_trained_together_end_where_each_ends_alone() {
    let world = World::new();
    let clients = [1, 2, 3, 4];
    let together = world.train(4, plan(&world.start, local()), &clients);
    let alone = world.train(1, plan(&world.start, local()), &clients);
    // Bit-equal on the CPU: no operation mixes rows of two clients, and no reduction is split by the group's size.
    assert_eq!(together, alone);
    assert_eq!(alone.iter().map(|outcome| outcome.steps).collect::<Vec<_>>(), [8, 2, 6, 2]);
    assert_eq!(alone.iter().map(|outcome| outcome.examples).collect::<Vec<_>>(), [13, 4, 9, 1]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let world = World::new();
    let train = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let outcomes = world.train(2, plan(&world.start, local()), &[1, 2, 3, 4]);
            let rows: Vec<u32> = (0..27).collect();
            let evaluation = evaluate(world.model.as_ref(), &outcomes[0].adapter, &world.dataset, &rows).unwrap();
            (outcomes, evaluation)
        })
    };
    assert_eq!(train(1), train(2));
}

#[test]
fn training_lowers_the_loss_on_the_training_examples() {
    let world = World::new();
    let local = LocalHyperparameters { work: LocalWork::Epochs(20), ..local() };
    let outcome = world.one(local);
    let plan = EvaluationPlan::new(&world.dataset, &world.shards[&ClientId(1)]).unwrap();
    let loss = |adapter| plan.evaluate(world.model.as_ref(), adapter).unwrap().loss;
    let (before, after) = (loss(&world.start), loss(&outcome.adapter));
    assert!(after < 0.5 * before, "loss {before} before, {after} after training");
}

#[test]
fn frozen_factors_keep_every_bit() {
    let world = World::new();
    for (train, head) in [(Factors::A, HeadPolicy::Frozen), (Factors::B, HeadPolicy::Personal)] {
        let mut plan = plan(&world.start, local());
        (plan.directive.train, plan.directive.head) = (train, head);
        for outcome in world.train(2, plan, &[1, 2]) {
            for (name, factors) in outcome.adapter.modules() {
                let start = &world.start.modules()[name];
                assert_eq!(factors.a == start.a, train == Factors::B, "A of {name}");
                assert_eq!(factors.b == start.b, train == Factors::A, "B of {name}");
            }
            assert_eq!(outcome.adapter.head() == world.start.head(), head == HeadPolicy::Frozen);
        }
    }
}

#[test]
fn a_client_without_examples_is_an_error_and_the_others_train() {
    let world = World::new();
    let results = world.trainer(3).train(&world.jobs(plan(&world.start, local()), &[5, 2, 77]));
    assert!(matches!(results[0], Err(LearnerError::EmptyClient { client: ClientId(5) })));
    assert_eq!(results[1].as_ref().unwrap(), &world.train(1, plan(&world.start, local()), &[2])[0]);
    assert!(matches!(results[2], Err(LearnerError::EmptyClient { client: ClientId(77) })));
}

#[test]
fn a_client_that_diverges_is_named_and_the_others_train() {
    let world = World::new();
    let mut jobs = world.jobs(plan(&world.start, local()), &[1, 2]);
    let (spec, modules, mut head) = world.start.clone().into_parts();
    // Finite values whose logits are not.
    for tensor in head.values_mut() {
        tensor.values_mut().fill(f32::MAX);
    }
    jobs[0].start = Adapter::new(spec, modules, head).unwrap();
    let results = world.trainer(2).train(&jobs);
    assert!(matches!(results[0], Err(LearnerError::Diverged { client: ClientId(1), round: RoundId(2), step: 0 })));
    assert_eq!(results[1].as_ref().unwrap(), &world.train(1, plan(&world.start, local()), &[2])[0]);
}

#[test]
fn a_label_that_the_head_lacks_fails_its_client_only() {
    let mut world = World::new();
    let (spec, modules, _) = world.start.clone().into_parts();
    let head = world.model.head_spec(2);
    let spec = AdapterSpec { head: head.clone(), ..spec.as_ref().clone() };
    let head = head.into_iter().map(|(name, shape)| (name, Tensor::zeros(&shape))).collect();
    world.start = Adapter::new(Arc::new(spec), modules, head).unwrap();
    // Labels go round; client 2 gets examples of labels 0 and 1 only.
    world.shards.insert(ClientId(2), vec![0, 1, 3, 4]);
    let results = world.trainer(2).train(&world.jobs(plan(&world.start, local()), &[1, 2]));
    assert!(matches!(results[0], Err(LearnerError::LabelOutOfRange { label: 2, labels: 2 })));
    assert!(results[1].is_ok());
}

#[test]
fn one_clipped_sgd_step_moves_all_tensors_together_by_rate_times_norm() {
    let world = World::new();
    let sgd = |max_grad_norm| LocalHyperparameters {
        work: LocalWork::Steps(1),
        learning_rate: 0.5,
        optimizer: Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 },
        schedule: Schedule::Constant,
        max_grad_norm,
        ..local()
    };
    let change = |max_grad_norm| change(&world.one(sgd(max_grad_norm)).adapter, &world.start);
    let free = change(0.0);
    let limit = 0.1 * norm(&free) / 0.5;
    let clipped = change(limit);
    // The step is a difference of f32 values below 1 in magnitude, each rounded to 2^-24.
    let rounding = 2.0 * (free.len() as f64).sqrt() * 2_f64.powi(-24);
    assert!((norm(&clipped) - 0.5 * limit).abs() < rounding + 1e-6 * limit, "{} {limit}", norm(&clipped));
    let difference: Vec<f64> = free.iter().zip(&clipped).map(|(free, clipped)| 0.1 * free - clipped).collect();
    assert!(norm(&difference) < 2.0 * rounding, "clipping changed the direction by {}", norm(&difference));
    assert_eq!(change(10.0 * norm(&free)), free, "a gradient within the limit is left alone");
}

#[test]
fn a_proximal_term_holds_clients_near_their_start() {
    let world = World::new();
    let distance = |proximal_mu| {
        let sgd = Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 };
        let local =
            LocalHyperparameters { proximal_mu, optimizer: sgd, learning_rate: 0.1, max_grad_norm: 0.0, ..local() };
        norm(&change(&world.one(local).adapter, &world.start))
    };
    assert!(distance(5.0) < 0.9 * distance(0.0), "{} {}", distance(5.0), distance(0.0));
}

#[test]
fn the_first_step_of_a_proximal_client_is_a_plain_step() {
    // At the start theta = theta_start, so the proximal gradient is exactly zero.
    let world = World::new();
    let one = |proximal_mu| world.one(LocalHyperparameters { proximal_mu, work: LocalWork::Steps(1), ..local() });
    assert_eq!(one(0.0), one(10.0));
}

#[test]
fn dropout_masks_belong_to_the_client() {
    let world = World::new();
    let local = LocalHyperparameters { lora_dropout: 0.3, ..local() };
    let together = world.train(4, plan(&world.start, local.clone()), &[1, 2, 3, 4]);
    let alone = world.train(1, plan(&world.start, local), &[1, 2, 3, 4]);
    assert_eq!(together, alone);
    assert_ne!(alone, world.train(1, plan(&world.start, self::local()), &[1, 2, 3, 4]));
}

#[test]
fn adapters_of_every_kind_train_to_the_same_bits_alone_and_beside_others() {
    for kind in KINDS.iter().map(|row| row.kind) {
        let mut world = World::new();
        world.start = start(world.model.as_ref(), kind);
        for local in [local(), LocalHyperparameters { lora_dropout: 0.3, ..local() }] {
            let together = world.train(3, plan(&world.start, local.clone()), &[1, 2, 3]);
            assert_eq!(together, world.train(1, plan(&world.start, local), &[1, 2, 3]), "{kind:?}");
            assert_ne!(together[0].adapter, world.start);
        }
    }
}

#[test]
fn lora_plus_multiplies_the_rate_of_b_and_of_nothing_else() {
    let world = World::new();
    let after = |loraplus_lr_ratio, optimizer| {
        let local = LocalHyperparameters {
            loraplus_lr_ratio,
            optimizer,
            work: LocalWork::Steps(1),
            learning_rate: 2.0_f64.powi(-10),
            schedule: Schedule::Constant,
            max_grad_norm: 0.0,
            ..local()
        };
        world.one(local).adapter
    };
    let sgd = Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 };
    let adamw = Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };
    for optimizer in [sgd, adamw] {
        let (plain, faster) = (after(1.0, optimizer), after(16.0, optimizer));
        assert_eq!(plain.head(), faster.head());
        for (name, start) in world.start.modules() {
            let (plain, faster) = (&plain.modules()[name], &faster.modules()[name]);
            assert_eq!(plain.a, faster.a);
            let steps = start.b.values().iter().zip(plain.b.values()).zip(faster.b.values());
            for ((start, plain), faster) in steps {
                // Values below 0.2, each rounded to 2^-24 of that, on both sides; sixteen times on one of them.
                assert!(((faster - start) - 16.0 * (plain - start)).abs() < 0.2 * 17.0 * 2.0 * f32::EPSILON);
                assert!((faster - start).abs() > 0.0);
            }
        }
    }
}

#[test]
fn a_round_of_no_steps_returns_the_start() {
    let world = World::new();
    let outcome = world.one(LocalHyperparameters { work: LocalWork::Steps(0), ..local() });
    assert_eq!((outcome.adapter, outcome.steps), (world.start.clone(), 0));
}

#[test]
fn rows_outside_of_the_data_set_are_refused_before_training() {
    let world = World::new();
    let shards = Arc::new(BTreeMap::from([(ClientId(1), vec![26, 27])]));
    let error = LocalTrainer::new(Arc::clone(&world.model), Arc::clone(&world.dataset), shards).unwrap_err();
    assert!(matches!(error, LearnerError::RowOutOfRange { row: 27, rows: 27 }));
    assert!(matches!(EvaluationPlan::new(&world.dataset, &[]), Err(LearnerError::NoExamples)));
}

#[test]
fn evaluation_is_the_same_for_any_order_of_the_rows_but_for_rounding() {
    let world = World::new();
    let rows: Vec<u32> = (0..27).collect();
    let reversed: Vec<u32> = rows.iter().rev().copied().collect();
    let evaluate = |rows: &[u32]| evaluate(world.model.as_ref(), &world.start, &world.dataset, rows).unwrap();
    let (one, other) = (evaluate(&rows), evaluate(&reversed));
    assert_eq!((one.examples, one.accuracy, one.macro_f1), (27, other.accuracy, other.macro_f1));
    // Each loss is the same f32; 27 additions in f64 of numbers below 10.
    assert!((one.loss - other.loss).abs() < 27.0 * 10.0 * f64::EPSILON);
}
