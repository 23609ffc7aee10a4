//! Evaluation and training of a tiny language model: what is measured is what a hand computation gives, and clients that
//! train together end where each ends alone.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use burn::tensor::activation::softmax;
use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, ClientId, Digest, Directive, Factors, HeadPolicy, LocalHyperparameters,
    LocalWork, NoiseLevel, Optimizer, PrivacyTerms, RoundId, RoundPlan, Schedule, Seed,
};
use fedlora_learner::{
    Dataset, GroupedAdapter, Job, LearnerError, LocalOutcome, LocalTrainer, Model, Pooling, Randomness, Trainer,
    data::Sequence, device, evaluate, load_pretrained, target_modules,
};

/// Tokens of the model.
const VOCABULARY: u32 = 64;

fn model() -> Arc<dyn Model> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders/llama");
    load_pretrained(&directory, Pooling::Mean, &device("cpu").unwrap()).unwrap().0
}

/// Prompts of one to four tokens behind the first, and responses that count on from the last token of the prompt.
fn dataset(examples: u32) -> Dataset {
    let sequence = |example: u32| {
        let (prompt, length) = (1 + example % 4, 2 + example % 5);
        let start = 4 + example * 7 % 40;
        let ids = std::iter::once(1).chain((0..prompt + length).map(|place| start + place));
        Sequence { ids: ids.map(|id| id % VOCABULARY).collect(), given: 1 + prompt as usize }
    };
    Dataset::causal(&(0..examples).map(sequence).collect::<Vec<_>>()).unwrap()
}

struct World {
    model: Arc<dyn Model>,
    dataset: Arc<Dataset>,
    shards: BTreeMap<ClientId, Vec<u32>>,
    start: Adapter,
}

impl World {
    /// Clients 1 to 4 with 11, 4, 7 and 1 examples.
    fn new() -> Self {
        let (model, dataset) = (model(), Arc::new(dataset(23)));
        let mut rows = 0..23;
        let shards = [11, 4, 7, 1].iter().zip(1..).map(|(&n, id)| (ClientId(id), rows.by_ref().take(n).collect()));
        let spec = AdapterSpec {
            kind: AdapterKind::Lora,
            rank: 4,
            alpha: 8.0,
            use_rslora: false,
            projection_seed: 0,
            modules: target_modules(&*model, &["all-linear".to_owned()]).unwrap(),
            head: model.head_spec(0),
        };
        let start = Adapter::initial(Arc::new(spec), Seed(3)).unwrap();
        Self { shards: shards.collect(), model, dataset, start }
    }

    fn plan(&self, privacy: Option<PrivacyTerms>) -> Arc<RoundPlan> {
        let train = Factors::Both;
        let work = if privacy.is_some() { LocalWork::Steps(4) } else { LocalWork::Epochs(20) };
        Arc::new(RoundPlan {
            run: "test".to_owned(),
            round: RoundId(1),
            num_rounds: 1,
            directive: Directive { train, upload: train, download: train, head: HeadPolicy::Shared },
            spec: self.start.spec().digest(),
            base: Digest::of(b""),
            seed: 9,
            local: LocalHyperparameters {
                work,
                batch_size: 4,
                learning_rate: 0.01,
                optimizer: Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 },
                schedule: Schedule::Constant,
                warmup_ratio: 0.0,
                max_grad_norm: 0.0,
                loraplus_lr_ratio: 1.0,
                lora_dropout: 0.1,
                proximal_mu: 0.0,
                privacy,
            },
        })
    }

    fn train(&self, cohort_size: usize, privacy: Option<PrivacyTerms>) -> Vec<LocalOutcome> {
        let plan = self.plan(privacy);
        let job = |&client: &ClientId| Job { client, plan: Arc::clone(&plan), start: self.start.clone() };
        let jobs: Vec<Job> = self.shards.keys().map(job).collect();
        let shards = Arc::new(self.shards.clone());
        let trainer = LocalTrainer::new(Arc::clone(&self.model), Arc::clone(&self.dataset), shards).unwrap();
        let mut trainer = trainer.with_cohort_size(cohort_size).with_randomness(Randomness::Seed);
        trainer.train(&jobs).into_iter().map(Result::unwrap).collect()
    }
}

#[test]
fn an_evaluation_is_what_the_probabilities_of_the_next_tokens_say() {
    let world = World::new();
    let rows: Vec<u32> = (0..23).collect();
    let found = evaluate(&*world.model, &world.start, &world.dataset, &rows).unwrap();
    let (mut loss, mut right, mut tokens) = (0.0, 0.0, 0);
    for &row in &rows {
        let batch = world.dataset.batch(&[row]);
        let adapter = GroupedAdapter::new(&[&world.start], Factors::Neither, false, &world.model.device()).unwrap();
        let probabilities = softmax(world.model.forward(&batch, &adapter, None), 1).into_data();
        let probabilities: Vec<f32> = probabilities.try_into_vec().unwrap();
        for (probabilities, &target) in probabilities.chunks(VOCABULARY as usize).zip(batch.targets.ids()) {
            let own = probabilities[target as usize];
            loss -= f64::from(own).ln();
            right += f64::from(u8::from(probabilities.iter().all(|other| *other <= own)));
            tokens += 1;
        }
    }
    // Every example predicts its response of 2 to 6 tokens.
    assert_eq!(
        (found.examples, found.tokens, tokens),
        (23, Some(tokens), (0..23).map(|example| 2 + example % 5).sum())
    );
    let loss = loss / tokens as f64;
    // Each probability is rounded some dozen times in f32.
    assert!((found.loss - loss).abs() < 1e-5, "{} instead of {loss}", found.loss);
    assert_eq!(found.perplexity, Some(found.loss.exp()));
    assert!((found.accuracy - right / tokens as f64).abs() < 1e-12 && found.macro_f1.is_none());
}

#[test]
fn training_lowers_the_loss_on_responses_and_touches_no_head() {
    let world = World::new();
    let (rows, outcome) = (&world.shards[&ClientId(1)], world.train(1, None).remove(0));
    let loss = |adapter| evaluate(&*world.model, adapter, &world.dataset, rows).unwrap().loss;
    let (before, after) = (loss(&world.start), loss(&outcome.adapter));
    assert!(after < 0.5 * before, "{before} before and {after} after");
    assert!((outcome.steps, outcome.examples) == (60, 11) && outcome.adapter.head().is_empty());
}

#[test]
fn language_models_trained_together_end_where_each_ends_alone_privately_too() {
    let world = World::new();
    let private = PrivacyTerms::new(NoiseLevel::Multiplier(1.0), 0.5, 1e-5).unwrap();
    for privacy in [None, Some(private)] {
        assert_eq!(world.train(4, privacy), world.train(1, privacy));
    }
}

#[test]
fn adapters_with_a_head_do_not_fit_a_language_model() {
    let world = World::new();
    let spec = AdapterSpec {
        head: BTreeMap::from([("classifier.bias".to_owned(), vec![2])]),
        ..AdapterSpec::clone(world.start.spec())
    };
    assert!(matches!(world.model.check(&spec), Err(LearnerError::HeadOfDecoder { .. })));
    assert!(world.model.check(world.start.spec()).is_ok());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders/llama");
    let (_, preprocessor) = load_pretrained(&directory, Pooling::Mean, &device("cpu").unwrap()).unwrap();
    assert!(preprocessor.check_length(64).is_ok());
    let error = preprocessor.check_length(65).unwrap_err().to_string();
    assert!(error.contains("max-length is 65") && error.contains("64"), "{error}");
}
