//! Text from tiny language models: greedy as `transformers` writes it, drawn as the probabilities say.

mod tiny_decoder;

use std::collections::BTreeMap;

use fedlora_adapter::{Adapter, AdapterSpec, Factors, HeadSpec};
use fedlora_learner::{
    Generation, GroupedAdapter, KeyValueCache, LearnerError, Model, Pooling, device, generate, generate_all,
    load_pretrained,
};
use serde::Deserialize;

use self::tiny_decoder::{MODELS, adapter, batch, directory, load, spec, values};

#[derive(Deserialize)]
struct Reference {
    sequences: Vec<Vec<u32>>,
    prompts: Vec<usize>,
    steps: usize,
    continuations: BTreeMap<String, Vec<u32>>,
}

impl Reference {
    fn read(name: &str) -> Self {
        serde_json::from_slice(&std::fs::read(directory(name).join("reference.json")).unwrap()).unwrap()
    }

    fn prompt(&self) -> &[u32] {
        &self.sequences[0][..self.prompts[0]]
    }

    fn greedy(&self) -> Generation {
        Generation { max_new_tokens: self.steps, ..Generation::default() }
    }
}

#[test]
fn greedy_continuations_are_those_of_transformers_with_and_without_an_adapter() {
    for name in MODELS {
        let (model, reference) = (load(name), Reference::read(name));
        let write = |adapter| generate(&*model, adapter, reference.prompt(), &reference.greedy()).unwrap();
        assert_eq!(write(None), reference.continuations["base"], "{name}");
        assert_eq!(write(Some(&adapter(&*model, 0.0))), reference.continuations["adapted"], "{name}");
    }
}

/// The logits behind a text, of a pass over the whole of it.
fn logits_of_whole(model: &dyn Model, adapters: &GroupedAdapter, text: &[u32]) -> Vec<f32> {
    // The last row predicts a token that does not count.
    let sequence = [text, &[0]].concat();
    let mut batch = batch(std::slice::from_ref(&sequence), &[text.len()]);
    let fedlora_learner::Inputs::Tokens { tokens, lengths } = &mut batch.inputs else { unreachable!() };
    tokens.ids.pop();
    lengths[0] -= 1;
    values(model.forward(&batch, adapters, None))
}

#[test]
fn logits_with_the_cache_are_those_of_the_whole_text_to_the_bit() {
    for name in MODELS {
        let (model, reference) = (load(name), Reference::read(name));
        let adapter = adapter(&*model, 0.0);
        let adapters = GroupedAdapter::new(&[&adapter], Factors::Neither, false, &model.device()).unwrap();
        let text = &reference.sequences[2];
        let mut cache = KeyValueCache::new(1);
        let mut seen = 0;
        // Several tokens at a time, first and later.
        for count in [3, 1, 1, 4, 1, 2] {
            let logits = model.decoder().unwrap().next(&[&text[seen..seen + count]], &mut cache, Some(&adapters));
            seen += count;
            assert_eq!(cache.seen(), [seen]);
            assert_eq!(values(logits), logits_of_whole(&*model, &adapters, &text[..seen]), "{name} {seen}");
        }
    }
}

#[test]
fn texts_written_side_by_side_are_those_that_each_prompt_has_alone() {
    for name in MODELS {
        let (model, reference) = (load(name), Reference::read(name));
        let adapter = adapter(&*model, 0.0);
        // More than are written side by side, of all lengths that there are; some stop at once, for want of room.
        let prompt = |number: usize| -> Vec<u32> {
            let longest = model.decoder().unwrap().longest();
            let length = if number.is_multiple_of(17) { longest } else { 1 + number % 9 };
            (0..length).map(|place| (3 + 7 * number + place) as u32 % 64).collect()
        };
        let prompts: Vec<Vec<u32>> = (0..90).map(prompt).collect();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        for generation in [reference.greedy(), Generation { temperature: 1.0, seed: 5, ..reference.greedy() }] {
            let together = generate_all(&*model, Some(&adapter), &prompts, &generation).unwrap();
            for (prompt, text) in prompts.iter().zip(&together) {
                assert_eq!(*text, generate(&*model, Some(&adapter), prompt, &generation).unwrap(), "{name} {prompt:?}");
            }
        }
    }
    assert!(generate_all(&*load("llama"), None, &[], &Generation::default()).unwrap().is_empty());
}

#[test]
fn draws_follow_from_the_seed_and_from_the_likeliest_token_alone_if_asked() {
    let (model, reference) = (load("llama"), Reference::read("llama"));
    let write = |generation| generate(&*model, None, reference.prompt(), &generation).unwrap();
    let drawn = |seed| Generation { temperature: 1.0, seed, ..reference.greedy() };
    assert_eq!(write(drawn(1)), write(drawn(1)));
    assert_ne!(write(drawn(1)), write(drawn(2)));
    for narrow in [Generation { top_k: 1, ..drawn(1) }, Generation { top_p: 1e-9, ..drawn(1) }] {
        assert_eq!(write(narrow), reference.continuations["base"]);
    }
}

#[test]
fn tokens_are_drawn_as_often_as_their_probabilities_say() {
    let (model, reference) = (load("qwen3"), Reference::read("qwen3"));
    let zeros = Adapter::zeros(spec(&*model)).unwrap();
    let adapters = GroupedAdapter::new(&[&zeros], Factors::Neither, false, &model.device()).unwrap();
    let temperature = 1.5;
    let logits = logits_of_whole(&*model, &adapters, reference.prompt());
    let weights: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) / temperature).exp()).collect();
    let draws = 2000;
    let mut counts = vec![0; weights.len()];
    for seed in 0..draws {
        let generation = Generation { max_new_tokens: 1, temperature, seed, ..Generation::default() };
        counts[generate(&*model, None, reference.prompt(), &generation).unwrap()[0] as usize] += 1;
    }
    for (token, (count, weight)) in counts.into_iter().zip(&weights).enumerate() {
        let (draws, share) = (draws as f64, weight / weights.iter().sum::<f64>());
        // Five standard deviations, and one draw more for shares of which less than one is expected.
        let allowed = 5.0 * (draws * share * (1.0 - share)).sqrt() + 1.0;
        assert!((f64::from(count) - draws * share).abs() <= allowed, "{token}: {count} of {}", draws * share);
    }
}

#[test]
fn a_text_ends_where_the_model_does() {
    let (model, reference) = (load("llama"), Reference::read("llama"));
    let endless = Generation { max_new_tokens: 1000, ..Generation::default() };
    let text = generate(&*model, None, reference.prompt(), &endless).unwrap();
    assert_eq!(text.len() + reference.prompt().len(), model.decoder().unwrap().longest());
    assert!(generate(&*model, None, &[5; 64], &endless).unwrap().is_empty());
}

#[test]
fn texts_end_at_every_token_that_a_file_of_the_model_names() {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory("qwen2")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let ends = || {
        let (model, preprocessor) = load_pretrained(copy.path(), None, &device("cpu").unwrap()).unwrap();
        (model.decoder().unwrap().end_tokens().to_vec(), preprocessor.into_text().unwrap().end().unwrap())
    };
    let write = |name: &str, text: &str| std::fs::write(copy.path().join(name), text).unwrap();
    // `config.json` names 63 and another one; a response ends with the first of them.
    let (own, end) = ends();
    assert!(own.len() == 2 && own.contains(&63) && end == 63, "{own:?}");
    write("generation_config.json", r#"{"eos_token_id": [63, 61]}"#);
    write("tokenizer_config.json", r#"{"eos_token": "w9"}"#);
    let (all, end) = ends();
    let mut expected = [own.as_slice(), &[9, 61]].concat();
    expected.sort_unstable();
    assert_eq!((all, end), (expected.clone(), 9));
    // A turn of the chat template ends with a special token, whatever is around it.
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&std::fs::read(copy.path().join("tokenizer.json")).unwrap()).unwrap();
    tokenizer["added_tokens"] = serde_json::json!([{
        "id": 60, "content": "w60", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    }]);
    write("tokenizer.json", &tokenizer.to_string());
    let turns = "{% for m in messages %}{{ m.role }} {{ m.content }} w60 w8 {% endfor %}{% if add_generation_prompt %}assistant {% endif %}";
    write("chat_template.jinja", turns);
    expected.push(60);
    expected.sort_unstable();
    assert_eq!(ends(), (expected, 9));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let model = load("llama");
    let refused = |prompt: &[u32], generation| {
        let error = generate(&*model, None, prompt, &generation).unwrap_err();
        let LearnerError::Generation { key, .. } = error else { panic!("{error}") };
        key
    };
    let default = Generation::default();
    assert_eq!(refused(&[], default), "prompt");
    assert_eq!(refused(&[1, 64], default), "prompt");
    assert_eq!(refused(&[1; 65], default), "prompt");
    for temperature in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(&[1], Generation { temperature, ..default }), "temperature");
    }
    for top_p in [0.0, 1.1, f64::NAN] {
        assert_eq!(refused(&[1], Generation { top_p, ..default }), "top-p");
    }
    let head = HeadSpec::from([("classifier.bias".to_owned(), vec![2])]);
    let headed = Adapter::zeros(AdapterSpec { head, ..(*spec(&*model)).clone() }.into()).unwrap();
    let error = generate(&*model, Some(&headed), &[1], &default).unwrap_err();
    assert!(matches!(error, LearnerError::HeadOfDecoder { .. }), "{error}");
}

#[test]
fn an_encoder_writes_no_text() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny_bert");
    let (model, _) = load_pretrained(&directory, Pooling::Mean, &device("cpu").unwrap()).unwrap();
    let error = generate(&*model, None, &[1], &Generation::default()).unwrap_err();
    assert!(matches!(error, LearnerError::NotADecoder), "{error}");
}
