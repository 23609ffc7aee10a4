//! A tiny language model is asked, and its answers are held against the right ones.

use std::{path::Path, sync::Arc};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Seed};
use fedlora_learner::{
    AnswerForm, Dataset, EvaluationPlan, ExactMatch, Generation, LearnerError, Model, Preprocessor, Questions,
    TextTokenizer,
    data::{Question, Sequence},
    device, generate, load_pretrained, target_modules,
};

const PROMPTS: [&[u32]; 4] = [&[1, 17, 23], &[1, 9], &[1, 30, 12, 44], &[5, 6, 7]];

struct World {
    model: Arc<dyn Model>,
    tokenizer: TextTokenizer,
    adapter: Adapter,
}

impl World {
    fn new() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders/mistral");
        let (model, preprocessor) = load_pretrained(&directory, None, &device("cpu").unwrap()).unwrap();
        let Preprocessor::Passages { tokenizer, .. } = preprocessor else { panic!("a language model") };
        let spec = AdapterSpec {
            kind: AdapterKind::Lora,
            rank: 2,
            alpha: 4.0,
            use_rslora: false,
            projection_seed: 0,
            modules: target_modules(&*model, &["q_proj".to_owned()]).unwrap(),
            head: model.head_spec(0),
        };
        let adapter = Adapter::initial(spec.into(), Seed(3)).unwrap();
        Self { adapter, model, tokenizer: *tokenizer }
    }

    /// What the model writes for each prompt.
    fn texts(&self, max_new_tokens: usize) -> Vec<String> {
        let generation = Generation { max_new_tokens, ..Generation::default() };
        let end = self.model.decoder().unwrap().end_tokens()[0];
        let text = |prompt: &[u32]| {
            let mut text = generate(&*self.model, Some(&self.adapter), prompt, &generation).unwrap();
            text.pop_if(|last| *last == end);
            text
        };
        PROMPTS.iter().map(|prompt| self.tokenizer.decode(&text(prompt)).unwrap()).collect()
    }

    fn share(&self, responses: &[String], settings: ExactMatch) -> Result<f64, LearnerError> {
        let rows: Vec<u32> = (0..responses.len() as u32).collect();
        let dataset = dataset(responses);
        let questions = Questions::new(&dataset, &rows, &self.tokenizer, settings)?;
        let plan = EvaluationPlan::new(&dataset, &rows)?.asking(questions);
        Ok(plan.evaluate(&*self.model, &self.adapter)?.exact_match.unwrap())
    }
}

/// The prompts with these responses, of whose tokens each sequence holds one.
fn dataset(responses: &[String]) -> Dataset {
    let sequence = |prompt: &[u32]| Sequence { ids: [prompt, &[8]].concat(), given: 1 };
    let sequences: Vec<Sequence> = PROMPTS.iter().take(responses.len()).map(|prompt| sequence(prompt)).collect();
    let question = |(prompt, response): (&&[u32], &String)| {
        Some(Question { prompt: prompt.len(), response: response.as_str().into() })
    };
    Dataset::causal(&sequences).unwrap().with_questions(PROMPTS.iter().zip(responses).map(question).collect()).unwrap()
}

#[test]
fn the_share_of_answers_is_that_of_texts_that_agree() {
    let world = World::new();
    let settings = ExactMatch { answer: AnswerForm::WholeString, max_new_tokens: 6, max_rows: 0 };
    let mut responses = world.texts(6);
    assert_eq!(world.share(&responses, settings).ok(), Some(1.0));
    responses[1].push_str(" and more");
    responses[3] = format!("  {}\n", responses[3]);
    assert_eq!(world.share(&responses, settings).ok(), Some(0.75));
    // Another number of tokens is another text.
    let shorter = ExactMatch { max_new_tokens: 5, ..settings };
    assert!(world.share(&responses, shorter).unwrap() < 0.75);
    // Of four questions every second one: those of the first and the third prompt.
    assert_eq!(world.share(&responses, ExactMatch { max_rows: 2, ..settings }).ok(), Some(1.0));
}

#[test]
fn the_last_number_counts_whatever_is_around_it() {
    let world = World::new();
    let settings = ExactMatch { max_new_tokens: 6, ..ExactMatch::default() };
    // The words of the model are `w4` to `w63`.
    let number = |text: &String| text.rsplit('w').next().unwrap().to_owned();
    let mut responses: Vec<String> =
        world.texts(6).iter().map(|text| format!("3 + 4 = 7\n#### {}.00", number(text))).collect();
    assert_eq!(world.share(&responses, settings).ok(), Some(1.0));
    responses[2] = "#### -1".to_owned();
    assert_eq!(world.share(&responses, settings).ok(), Some(0.75));
    responses[0] = "no number".to_owned();
    let error = world.share(&responses, settings).unwrap_err().to_string();
    assert!(error.contains("\"no number\"") && error.contains("whole-string"), "{error}");
}

#[test]
fn what_asks_nothing_is_refused_and_without_a_word_nothing_is_written() {
    let world = World::new();
    let sequences = [Sequence { ids: vec![1, 2, 3], given: 1 }];
    let dataset = Dataset::causal(&sequences).unwrap();
    let error = Questions::new(&dataset, &[0], &world.tokenizer, ExactMatch::default()).unwrap_err();
    assert!(matches!(error, LearnerError::NoQuestions), "{error}");
    let none = ExactMatch { max_new_tokens: 0, ..ExactMatch::default() };
    let error = Questions::new(&dataset, &[0], &world.tokenizer, none).unwrap_err().to_string();
    assert!(error.contains("exact-match.max-new-tokens is 0"), "{error}");
    let plan = EvaluationPlan::new(&dataset, &[0]).unwrap();
    assert_eq!(plan.evaluate(&*world.model, &world.adapter).unwrap().exact_match, None);
}
