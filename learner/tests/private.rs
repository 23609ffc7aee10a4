//! Laws of private training on a tiny vision transformer with random weights.
//!
//! With all examples in every batch and hardly any noise, private training is arithmetic: the mean of clipped gradients.
//! Noise of 1e-7 of the bound is far below the tolerances, and no accountant is asked about it.

mod tiny_vit;

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, ClientId, Digest, Directive, Factors, GradientClipping, HeadPolicy, LocalHyperparameters,
    LocalWork, NoiseKind, NoiseLevel, Optimizer, PrivacyTerms, Purpose, RoundId, RoundPlan, Schedule, Seed,
};
use fedlora_learner::{Dataset, Job, LearnerError, LocalOutcome, LocalTrainer, Model, Randomness, Trainer};
use fedlora_privacy::{Accountant, PldAccountant};
use rand::RngExt;
use tiny_vit::{LABELS, SIDE, change, model, norm, start};

const RATE: f64 = 0.5;
const HARDLY_ANY: f64 = 1e-7;

struct World {
    model: Arc<dyn Model>,
    dataset: Arc<Dataset>,
    start: Adapter,
}

impl World {
    fn new(kind: AdapterKind) -> Self {
        let model = model();
        let mut rng = Seed(5).run(Purpose::Data);
        let labels: Vec<u32> = (0..40).map(|example| example % LABELS as u32).collect();
        let pixels = (0..40 * SIDE * SIDE).map(|_| rng.random::<f32>()).collect();
        let names = (0..LABELS).map(|label| label.to_string()).collect();
        let dataset = Arc::new(Dataset::images(pixels, SIDE * SIDE, labels, names).unwrap());
        let start = start(model.as_ref(), kind);
        Self { model, dataset, start }
    }

    fn train(&self, shards: &[&[u32]], plan: RoundPlan, cohort_size: usize) -> Vec<LocalOutcome> {
        let shards: BTreeMap<_, _> = (0..).map(ClientId).zip(shards.iter().map(|rows| rows.to_vec())).collect();
        let plan = Arc::new(plan);
        let job = |client: &ClientId| Job { client: *client, plan: Arc::clone(&plan), start: self.start.clone() };
        let jobs: Vec<Job> = shards.keys().map(job).collect();
        let mut trainer = LocalTrainer::new(Arc::clone(&self.model), Arc::clone(&self.dataset), Arc::new(shards))
            .unwrap()
            .with_cohort_size(cohort_size)
            .with_randomness(Randomness::Seed);
        trainer.train(&jobs).into_iter().map(Result::unwrap).collect()
    }

    fn change(&self, outcome: &LocalOutcome) -> Vec<f64> {
        change(&outcome.adapter, &self.start)
    }
}

/// One step of plain SGD on `batch_size` expected examples.
fn plan(world: &World, train: Factors, head: HeadPolicy, batch_size: usize, terms: Option<PrivacyTerms>) -> RoundPlan {
    RoundPlan {
        run: "private".to_owned(),
        round: RoundId(2),
        num_rounds: 8,
        directive: Directive { train, upload: train, download: train, head },
        spec: world.start.spec().digest(),
        base: Digest::of(b""),
        seed: 9,
        local: LocalHyperparameters {
            work: LocalWork::Steps(1),
            batch_size,
            learning_rate: RATE,
            optimizer: Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 },
            schedule: Schedule::Constant,
            warmup_ratio: 0.0,
            max_grad_norm: 0.0,
            lora_dropout: 0.0,
            proximal_mu: 0.0,
            loraplus_lr_ratio: 1.0,
            privacy: terms,
        },
    }
}

fn terms(noise: f64, bound: f64) -> PrivacyTerms {
    PrivacyTerms::new(NoiseLevel::Multiplier(noise), bound, 1e-5).unwrap()
}

/// Norm of the difference over the norm of what was expected.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    let gap: Vec<f64> = found.iter().zip(expected).map(|(found, expected)| found - expected).collect();
    norm(&gap) / norm(expected)
}

const ROWS: [u32; 7] = [0, 5, 9, 13, 22, 30, 37];

/// What is trained: both factors and the head, `B` only, the head only; and `VeRA`'s vectors.
fn cases() -> Vec<(AdapterKind, Factors, HeadPolicy)> {
    vec![
        (AdapterKind::Lora, Factors::Both, HeadPolicy::Shared),
        (AdapterKind::Lora, Factors::Both, HeadPolicy::Personal),
        (AdapterKind::Lora, Factors::B, HeadPolicy::Frozen),
        (AdapterKind::Lora, Factors::Neither, HeadPolicy::Shared),
        (AdapterKind::Vera, Factors::Both, HeadPolicy::Frozen),
    ]
}

#[test]
fn without_clipping_and_noise_it_is_a_step_on_the_mean_loss() {
    for (kind, train, head) in cases() {
        let world = World::new(kind);
        let step = |terms| {
            let plan = plan(&world, train, head, ROWS.len(), terms);
            world.change(&world.train(&[&ROWS], plan, 1)[0])
        };
        // A bound of 10 clips nothing here.
        let (private, plain) = (step(Some(terms(HARDLY_ANY, 10.0))), step(None));
        // Changes of 1e-2 or more in all, noise of 0.5 · 1e-6 / 7 for each of some 200 values, f32 sums in another order.
        assert!(distance(&private, &plain) < 2e-4, "{kind:?} {train:?} {head:?}: {}", distance(&private, &plain));
    }
}

#[test]
fn a_batch_is_the_mean_of_single_clipped_examples() {
    for clipping in [GradientClipping::Flat, GradientClipping::PerLayer] {
        is_the_mean_of_single_clipped_examples(clipping);
    }
}

fn is_the_mean_of_single_clipped_examples(clipping: GradientClipping) {
    let bound = 0.05;
    for (kind, train, head) in cases() {
        let world = World::new(kind);
        let terms = Some(terms(HARDLY_ANY, bound).with(clipping, NoiseKind::Grid));
        let together = world.change(&world.train(&[&ROWS], plan(&world, train, head, ROWS.len(), terms), 1)[0]);
        let singles: Vec<[u32; 1]> = ROWS.map(|row| [row]).to_vec();
        let shards: Vec<&[u32]> = singles.iter().map(<[u32; 1]>::as_slice).collect();
        let alone = world.train(&shards, plan(&world, train, head, 1, terms), 1);
        let alone: Vec<Vec<f64>> = alone.iter().map(|outcome| world.change(outcome)).collect();
        let mean: Vec<f64> =
            (0..together.len()).map(|index| alone.iter().map(|one| one[index]).sum::<f64>() / 7.0).collect();
        // Differences of f32 values of up to 0.1: rounding of 4e-9 a value, against changes of some 1e-3 in all.
        assert!(distance(&together, &mean) < 2e-4, "{kind:?} {train:?} {head:?}: {}", distance(&together, &mean));
        // Every example is longer than the bound: exactly as long afterwards, up to that rounding.
        for one in &alone {
            let length = norm(one) / RATE;
            assert!(length < bound * (1.0 + 1e-4), "{kind:?} {train:?} {head:?}: {length}");
        }
        // Where every tensor has a bound of its own, an example is that long only if all its tensors are too long.
        let full = alone.iter().any(|one| norm(one) / RATE > bound * 0.999);
        assert!(full || clipping == GradientClipping::PerLayer, "{kind:?} {train:?} {head:?}");
    }
}

#[test]
fn a_bound_that_adapts_begins_at_the_given_one_and_hides_the_count_within_the_same_cost() {
    let world = World::new(AdapterKind::Lora);
    let outcome = |noise, bound, clipping, kind, (rate, steps)| {
        let terms = terms(noise, bound).with(clipping, kind);
        let mut plan = plan(&world, Factors::Both, HeadPolicy::Shared, ROWS.len(), Some(terms));
        plan.local.work = LocalWork::Steps(steps);
        plan.local.learning_rate = rate;
        world.train(&[&ROWS], plan, 1).remove(0)
    };
    let (flat, adaptive) = (GradientClipping::Flat, GradientClipping::Adaptive);
    // The first step has no count before it: the same clipped sum, but for noise.
    let step = |clipping| world.change(&outcome(HARDLY_ANY, 0.05, clipping, NoiseKind::Grid, (RATE, 1)));
    assert!(distance(&step(adaptive), &step(flat)) < 1e-5);
    // So small steps leave the gradients as they are. All examples are within a bound of 10, which falls by a tenth in a step; noise of 1.03 · sigma · C shows it.
    let size = |clipping, steps| norm(&world.change(&outcome(1.0, 10.0, clipping, NoiseKind::Fast, (1e-3, steps))));
    let shrunk = size(adaptive, 20) / size(flat, 20);
    // Twenty steps' noise, sum of squares: (1 - 0.82^20)/(1 - 0.82)/20 · 1.07 = 0.29 of the square, within a fifth.
    assert!((0.43..0.66).contains(&shrunk), "{shrunk}");
    let spent = |clipping| outcome(1.0, 10.0, clipping, NoiseKind::Grid, (1e-3, 2)).spent.expect("private");
    assert_eq!(spent(flat), spent(adaptive), "the count is part of the same release");
}

#[test]
fn what_an_example_drops_does_not_depend_on_the_others() {
    let world = World::new(AdapterKind::Lora);
    let change = |rows: &[u32]| {
        let mut plan = plan(&world, Factors::Both, HeadPolicy::Shared, 3, Some(terms(HARDLY_ANY, 0.05)));
        plan.local.lora_dropout = 0.5;
        world.change(&world.train(&[rows], plan, 1)[0])
    };
    // A sum of clipped examples, each with its own mask: that of all is the sum of those without and with the first.
    let (all, first, others) = (change(&[3, 8, 21]), change(&[3]), change(&[8, 21]));
    let sum: Vec<f64> = first.iter().zip(&others).map(|(first, others)| first + others).collect();
    // The tolerance of the mean of single examples.
    assert!(distance(&all, &sum) < 2e-4, "{}", distance(&all, &sum));
}

#[test]
fn an_empty_batch_is_noise_of_the_full_size() {
    let world = World::new(AdapterKind::Lora);
    let (noise, bound, batch_size) = (3.0, 2.0, 1);
    // One expected example of 40, and a seed whose first sample is empty or small: noise is 6, a gradient at most 2.
    let rows: Vec<u32> = (0..40).collect();
    let plan = plan(&world, Factors::Both, HeadPolicy::Shared, batch_size, Some(terms(noise, bound)));
    let outcome = world.train(&[&rows], plan, 1).remove(0);
    let change = world.change(&outcome);
    let deviation = norm(&change) / (change.len() as f64).sqrt() / RATE;
    // The norm of d normal values is sqrt(d)·(1 ± 3/sqrt(2d)); a clipped gradient adds at most 2/sqrt(d).
    let d = change.len() as f64;
    let room = noise * bound * 3.0 / (2.0 * d).sqrt() + 2.0 * bound / d.sqrt();
    assert!((deviation - noise * bound).abs() < room, "{deviation} is not {} ± {room}", noise * bound);
    let spent = outcome.spent.unwrap();
    assert_eq!((spent.steps(), spent.noise_multiplier(), spent.sample_rate()), (1, noise, 1.0 / 40.0));
}

#[test]
fn neither_neighbours_nor_threads_change_a_bit() {
    let world = World::new(AdapterKind::Lora);
    let (first, second): (Vec<u32>, Vec<u32>) = ((0..15).collect(), (15..40).collect());
    let train = |threads, cohort_size| {
        let mut plan = plan(&world, Factors::Both, HeadPolicy::Shared, 8, Some(terms(0.7, 0.1)));
        plan.local = LocalHyperparameters { work: LocalWork::Steps(4), lora_dropout: 0.2, ..plan.local };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| world.train(&[&first, &second], plan, cohort_size))
    };
    let alone = train(1, 1);
    assert_eq!(alone, train(2, 2));
    assert_ne!(alone[0].adapter, alone[1].adapter);
}

#[test]
fn a_client_works_out_the_noise_of_its_target() {
    let world = World::new(AdapterKind::Lora);
    let level = NoiseLevel::Target { epsilon: 2.0, participations: Some(5) };
    let terms = PrivacyTerms::new(level, 1.0, 1e-3).unwrap();
    let rows: Vec<u32> = (0..40).collect();
    let outcome = world.train(&[&rows], plan(&world, Factors::B, HeadPolicy::Frozen, 4, Some(terms)), 1).remove(0);
    let spent = outcome.spent.unwrap();
    let five = PldAccountant::new().epsilon(&[spent; 5], 1e-3).unwrap();
    // The search ends within 1e-8 of the noise, and epsilon is no steeper than the noise's inverse square here.
    assert!((1.99..=2.0).contains(&five), "{five}");
}

#[test]
fn a_delta_that_would_let_one_example_out_is_refused() {
    let world = World::new(AdapterKind::Lora);
    let terms = PrivacyTerms::new(NoiseLevel::Multiplier(1.0), 1.0, 0.2).unwrap();
    let plan = Arc::new(plan(&world, Factors::B, HeadPolicy::Frozen, 4, Some(terms)));
    let shards = Arc::new(BTreeMap::from([(ClientId(0), vec![0, 1, 2, 3, 4])]));
    let mut trainer = LocalTrainer::new(Arc::clone(&world.model), Arc::clone(&world.dataset), shards).unwrap();
    let job = Job { client: ClientId(0), plan, start: world.start.clone() };
    let error = trainer.train(&[job]).remove(0).unwrap_err();
    assert!(matches!(error, LearnerError::Privacy(_)), "{error}");
}
