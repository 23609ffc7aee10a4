//! The gradient of each example of a pass is that of the example alone, and clipping bounds it.

use std::{path::Path, sync::Arc};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, ClientId, Factors, NoiseLevel, PrivacyTerms, Purpose, Seed};
use fedlora_privacy::SampledGaussian;
use rand::RngExt;

use super::{plan, random_adapter};
use crate::{
    Dataset, GroupedAdapter, Model, Pooling, Randomness, Tokens, Vit, VitConfig,
    data::Sequence,
    device,
    evaluate::read,
    load_pretrained, target_modules,
    train::{
        flat, loss,
        private::{Private, Units},
    },
};

const LABELS: usize = 3;
/// As many as go through a private step at a time.
const EXAMPLES: usize = 32;
/// Which factors are trained, and whether the head is.
const CASES: [(Factors, bool); 4] =
    [(Factors::Both, false), (Factors::B, false), (Factors::Neither, true), (Factors::Both, true)];

struct World {
    name: &'static str,
    model: Arc<dyn Model>,
    dataset: Dataset,
    adapter: Adapter,
}

impl World {
    fn new(name: &'static str, kind: AdapterKind, model: Arc<dyn Model>, dataset: Dataset) -> Self {
        let spec = AdapterSpec {
            kind,
            rank: 2,
            alpha: 4.0,
            use_rslora: false,
            projection_seed: 0,
            modules: target_modules(model.as_ref(), &["all-linear".to_owned()]).unwrap(),
            head: model.head_spec(LABELS),
        };
        let adapter = random_adapter(spec.with_extras());
        Self { name, model, dataset, adapter }
    }

    /// The tiny BERT, and texts of one to twelve tokens of which some are equally long.
    fn bert(name: &'static str, pooling: Pooling) -> Self {
        Self::encoder(name, "tiny_bert", pooling, AdapterKind::Lora)
    }

    fn encoder(name: &'static str, model: &str, pooling: Pooling, kind: AdapterKind) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(model);
        let (model, _) = load_pretrained(&directory, pooling, &device("cpu").unwrap()).unwrap();
        let mut rng = Seed(5).run(Purpose::Data);
        let mut text = |length: usize| (0..length).map(|_| rng.random_range(0..27_u32)).collect::<Vec<_>>();
        let texts: Vec<Tokens> = (0..EXAMPLES).map(|example| text(1 + example * 5 % 12).into()).collect();
        let (labels, names) = labels();
        Self::new(name, kind, model, Dataset::tokens(&texts, labels, names).unwrap())
    }

    fn vit() -> Self {
        let config = VitConfig {
            image_size: 8,
            num_channels: 1,
            patch_size: 4,
            hidden_size: 12,
            num_hidden_layers: 2,
            num_attention_heads: 3,
            intermediate_size: 20,
            layer_norm_eps: 1e-6,
            class_token: false,
        };
        let model = Arc::new(Vit::random(&config, Seed(7), &device("cpu").unwrap()).unwrap());
        let mut rng = Seed(6).run(Purpose::Data);
        let pixels = (0..EXAMPLES * 64).map(|_| rng.random()).collect();
        let (labels, names) = labels();
        Self::new("ViT", AdapterKind::Lora, model, Dataset::images(pixels, 64, labels, names).unwrap())
    }

    /// The tiny Llama, and sequences of which it predicts between one token and all but the first.
    fn llama() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders/llama");
        let (model, _) = load_pretrained(&directory, Pooling::Mean, &device("cpu").unwrap()).unwrap();
        let mut rng = Seed(5).run(Purpose::Data);
        let mut sequence = |example: usize| {
            let length = 2 + example * 5 % 11;
            let ids = (0..length).map(|_| rng.random_range(0..64_u32)).collect();
            Sequence { ids, given: 1 + example % (length - 1) }
        };
        let sequences: Vec<Sequence> = (0..EXAMPLES).map(&mut sequence).collect();
        Self::new("Llama", AdapterKind::Lora, model, Dataset::causal(&sequences).unwrap())
    }

    /// Whether a case trains anything: the head of a decoder is none.
    fn trains(&self, (train, _): (Factors, bool)) -> bool {
        train != Factors::Neither || self.model.decoder().is_none()
    }

    fn all() -> [Self; 9] {
        [
            Self::encoder("DistilBERT, LoRA-XS", "tiny_distilbert", Pooling::Mean, AdapterKind::LoraXs),
            Self::encoder("RoBERTa, its classifier", "tiny_roberta", Pooling::Pooler, AdapterKind::Lora),
            Self::encoder("DistilBERT, DoRA", "tiny_distilbert", Pooling::Mean, AdapterKind::Dora),
            Self::encoder("BERT, OLoRA", "tiny_bert", Pooling::Mean, AdapterKind::Olora),
            Self::bert("BERT, mean", Pooling::Mean),
            Self::bert("BERT, first token", Pooling::Cls),
            Self::bert("BERT, pooler", Pooling::Pooler),
            Self::vit(),
            Self::llama(),
        ]
    }

    /// One group, as every client that trains plainly has.
    fn alone(&self, (train, head): (Factors, bool)) -> GroupedAdapter {
        GroupedAdapter::new(&[&self.adapter], train, head, &self.model.device()).unwrap()
    }

    /// Gradients of the losses of some rows, for each group of `adapters`.
    fn gradients(&self, adapters: &GroupedAdapter, rows: &[u32]) -> Vec<Vec<f32>> {
        let batch = self.dataset.batch(rows);
        let loss = loss::cross_entropy(self.model.forward(&batch, adapters, None), batch.targets.ids());
        let gradients = read(flat::gradients(adapters, &loss.sum())).unwrap();
        let width = gradients.len() / adapters.examples().len();
        gradients.chunks(width).map(<[f32]>::to_vec).collect()
    }

    /// Gradients of all examples: of one pass, as a private step takes them, and of a loop.
    fn both_ways(&self, case: (Factors, bool)) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let (alone, rows) = (self.alone(case), (0..EXAMPLES as u32).collect::<Vec<_>>());
        let together = self.gradients(&alone.per_example(&[0; EXAMPLES]), &rows);
        let one_by_one = rows.iter().flat_map(|row| self.gradients(&alone, &[*row])).collect();
        (together, one_by_one)
    }
}

fn labels() -> (Vec<u32>, Vec<String>) {
    let labels = (0..EXAMPLES).map(|example| (example % LABELS) as u32).collect();
    (labels, (0..LABELS).map(|label| label.to_string()).collect())
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn length(gradient: &[f32]) -> f64 {
    norm(gradient.iter().copied().map(f64::from))
}

#[test]
fn gradients_of_a_pass_are_those_of_single_examples() {
    for world in World::all() {
        for case in CASES.into_iter().filter(|case| world.trains(*case)) {
            let (together, one_by_one) = world.both_ways(case);
            assert_eq!((together.len(), one_by_one.len()), (EXAMPLES, EXAMPLES));
            for (example, (found, expected)) in together.iter().zip(&one_by_one).enumerate() {
                assert_eq!(found.len(), expected.len());
                let length = length(expected);
                assert!(length > 1e-4, "{} {case:?}: example {example} has no gradient", world.name);
                let gap = norm(found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
                // Sums of f32 numbers in another order: some forty terms of 2^-24 each in some dozen sums one after another,
                // and their errors are as often up as down.
                assert!(gap <= 1e-5 * length, "{} {case:?}: example {example} is off by {}", world.name, gap / length);
            }
        }
    }
}

#[test]
fn what_an_example_adds_to_a_sum_is_no_longer_than_the_bound() {
    for world in World::all() {
        for case in CASES.into_iter().filter(|case| world.trains(*case)) {
            let (gradients, _) = world.both_ways(case);
            let lengths: Vec<f64> = gradients.iter().map(|gradient| length(gradient)).collect();
            // The median: half of the gradients are scaled and half are left alone.
            let mut sorted = lengths.clone();
            sorted.sort_by(f64::total_cmp);
            let bound = sorted[EXAMPLES / 2];
            let mut private = private(&world, bound);
            for (mut gradient, length) in gradients.into_iter().zip(lengths) {
                let mut sum = vec![0.0; gradient.len()];
                private.add_clipped(&mut gradient, &mut sum).unwrap();
                let clipped = norm(sum);
                assert!(clipped <= bound * (1.0 + 1e-6), "{} {case:?}: {clipped} of {bound}", world.name);
                // Clipping takes no more than it must.
                assert!(clipped >= length.min(bound) * (1.0 - 1e-6), "{} {case:?}: {clipped} of {length}", world.name);
            }
        }
    }
}

/// Private training that clips to `bound`.
fn private(world: &World, bound: f64) -> Private {
    let terms = PrivacyTerms::new(NoiseLevel::Multiplier(1.0), bound, 1e-5).unwrap();
    let plan = plan(&world.adapter, 1, Factors::Both, EXAMPLES, Some(terms));
    let event = SampledGaussian::new(1.0, 1.0, 1).unwrap();
    let sizes = crate::grouped::trained_sizes(plan.directive, world.adapter.spec());
    let units = Units::Examples((0..EXAMPLES as u32).collect());
    Private::new(&plan, terms, event, (ClientId(0), units), &sizes, Randomness::Seed).unwrap()
}
