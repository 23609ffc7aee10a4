//! From files to examples of causal language models: what is given, and what is predicted.

mod letters;

use std::fs;

use fedlora_adapter::Seed;
use fedlora_learner::{
    DataConfig, LearnerError, LoadedPassages, LoadedText, Targets, TextTokenizer,
    data::{Column, Format, Passage},
};
use letters::{END, text};

const SEED: Seed = Seed(7);
const GSM8K: &str = r#####"{"question": "1+1 and 2?", "answer": "1+1=2, 2+2=4\n#### 4"}
{"question": "3-1?", "answer": "#### 2"}
"#####;

fn tokenizer() -> TextTokenizer {
    letters::tokenizer(true, &[("config.json", r#"{"eos_token_id": [1, 0]}"#)]).unwrap()
}

fn read(name: &str, content: &str, change: impl FnOnce(&mut DataConfig)) -> Result<LoadedPassages, LearnerError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), content).unwrap();
    let mut config = DataConfig::new(folder.path().join(name));
    change(&mut config);
    LoadedPassages::load_site(&config, &tokenizer(), SEED)
}

/// What is given, and what is predicted.
fn parts(passages: &[Passage]) -> Vec<(String, String)> {
    let parts = |passage: &Passage| {
        let (given, predicted) = passage.sequence.ids.split_at(passage.sequence.given);
        (text(given), text(predicted))
    };
    passages.iter().map(parts).collect()
}

fn pair(given: &str, predicted: &str) -> (String, String) {
    (given.to_owned(), predicted.to_owned())
}

#[test]
fn questions_and_answers_need_no_setting_and_exactly_the_answer_is_predicted() {
    let loaded = read("train.jsonl", GSM8K, |_| ()).unwrap();
    let expected = [pair("^1+1 and 2?\n", "1+1=2, 2+2=4\n#### 4$"), pair("^3-1?\n", "#### 2$")];
    assert_eq!(parts(loaded.train()), expected);
    assert_eq!((loaded.train()[1].origin.line, loaded.left_out()), (2, 0));
    let Targets::Tokens(next) = loaded.datasets().unwrap().0.batch(&[1]).targets else { panic!("expected tokens") };
    // `^3-1?\n` are rows 0 to 5 of 13: the last of them predicts the first `#`.
    assert_eq!((next.rows, text(&next.ids), next.counts), ((5..12).collect(), "#### 2$".to_owned(), vec![7]));
}

#[test]
fn a_row_asks_its_whole_prompt_for_its_whole_response_wherever_it_is_cut() {
    let questions = |max_length, loss_on_prompt| {
        let change =
            |config: &mut DataConfig| (config.max_length, config.loss_on_prompt) = (max_length, loss_on_prompt);
        let (train, _) = read("train.jsonl", GSM8K, change).unwrap().datasets().unwrap();
        let asked = |row| train.question(row).map(|(prompt, answer)| (text(prompt), answer.to_owned()));
        (0..train.len() as u32).map(asked).collect::<Vec<_>>()
    };
    let first = Some(("^1+1 and 2?\n".to_owned(), "1+1=2, 2+2=4\n#### 4".to_owned()));
    let second = Some(("^3-1?\n".to_owned(), "#### 2".to_owned()));
    assert_eq!(questions(128, false), [first.clone(), second.clone()]);
    assert_eq!(questions(128, true), [first, second.clone()]);
    // Within eight tokens the first prompt is cut, and can be learnt but not asked.
    assert_eq!(questions(8, true), [None, second.clone()]);
    assert_eq!(questions(8, false), [second]);
}

#[test]
fn columns_can_be_named_and_prompts_can_have_two_parts_and_be_predicted() {
    let csv = "instruction,input,output,site\nAdd,\"1, 2\",3,a\nSay no,,no,b\n";
    let loaded = read("train.csv", csv, |config| {
        config.pair_column = Some(Column::Name("input".to_owned()));
        config.group_column = Some(Column::Name("site".to_owned()));
    });
    let loaded = loaded.unwrap();
    assert_eq!(parts(loaded.train()), [pair("^Add\n1, 2\n", "3$"), pair("^Say no\n", "no$")]);
    assert_eq!(loaded.group_names(), ["a", "b"]);
    let predicted = read("train.csv", csv, |config| {
        (config.text_column, config.response_column) =
            (Some(Column::Name("site".to_owned())), Some(Column::Name("instruction".to_owned())));
        config.loss_on_prompt = true;
    });
    assert_eq!(parts(predicted.unwrap().train()), [pair("^", "a\nAdd$"), pair("^", "b\nSay no$")]);
}

#[test]
fn long_rows_are_cut_and_rows_without_room_for_the_response_are_counted() {
    let loaded = read("train.jsonl", GSM8K, |config| config.max_length = 12).unwrap();
    // The first prompt has 12 tokens by itself; of the second response one token is cut away, the one that ends it.
    assert_eq!(parts(loaded.train()), [pair("^3-1?\n", "#### 2")]);
    assert_eq!(loaded.left_out(), 1);
    let error = read("train.jsonl", GSM8K, |config| config.max_length = 6).unwrap_err().to_string();
    assert!(error.starts_with("all 2 training rows of ") && error.ends_with("raise `max-length`"), "{error}");
}

#[test]
fn running_text_is_cut_into_windows_in_which_every_token_is_predicted_once() {
    let content = "To be, or not to be:\nthat is the question.\n";
    let loaded = read("play.txt", content, |config| config.max_length = 10).unwrap();
    let windows = parts(loaded.train());
    assert!(windows.iter().all(|(given, own)| given == "^" && own.len() <= 9), "{windows:?}");
    assert_eq!(windows.iter().map(|(_, own)| own.as_str()).collect::<String>(), content);
    // Without a token in front, a window is given the last token of the one before.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), content).unwrap();
    let config = DataConfig { max_length: 10, ..DataConfig::new(folder.path()) };
    let loaded = LoadedPassages::load_site(&config, &letters::tokenizer(false, &[]).unwrap(), SEED).unwrap();
    let windows = parts(loaded.train());
    assert_eq!(windows[..2], [pair("T", "o be, or "), pair(" ", "not to be")]);
    assert_eq!(windows.iter().map(|(_, own)| own.as_str()).collect::<String>(), content[1..]);
}

const PLAY: &str = "ROMEO:\nYes.\n\nJULIET:\nNo, no.\nNo.\n\nNURSE:\nOh\n\nROMEO:\nI say yes.\n";

fn play(content: &str, min_characters: usize) -> Result<LoadedPassages, LearnerError> {
    read("play.txt", content, |config| (config.format, config.min_characters) = (Format::Plays, min_characters))
}

#[test]
fn speakers_are_clients_with_all_that_they_say_and_nobody_elses_words() {
    let loaded = play(PLAY, 0).unwrap();
    assert_eq!(loaded.group_names(), ["JULIET", "NURSE", "ROMEO"]);
    assert_eq!(
        parts(loaded.train()),
        [pair("^", "No, no.\nNo.\n"), pair("^", "Oh\n"), pair("^", "Yes.\nI say yes.\n")]
    );
    assert_eq!(loaded.train().iter().map(|passage| passage.origin.line).collect::<Vec<_>>(), [4, 8, 1]);
    // Ends of lines count: 12, 3 and 16 characters.
    assert_eq!(play(PLAY, 12).unwrap().group_names(), ["JULIET", "ROMEO"]);
    assert_eq!(play(PLAY, 13).unwrap().group_names(), ["ROMEO"]);
    let error = play(PLAY, 17).unwrap_err().to_string();
    assert!(error.ends_with("has 17 characters, the longest has 16: lower `min-characters`"), "{error}");
    let error = play("ROMEO:\nYes.\n\nand so on\n", 0).unwrap_err().to_string();
    assert!(error.ends_with("play.txt:4: expected the name of a speaker and a colon, found `and so on`"), "{error}");
}

#[test]
fn what_a_speaker_holds_out_does_not_depend_on_the_others() {
    let verse = |name: &str, lines: usize| format!("{name}:\n{}\n", "Good night, good night!\n".repeat(lines));
    let split = |content: &str| {
        let loaded = read("play.txt", content, |config| {
            (config.format, config.max_length, config.test_fraction) = (Format::Plays, 12, Some(0.25));
        });
        let loaded = loaded.unwrap();
        let own = |rows: &[Passage]| {
            let own = rows.iter().filter(|row| row.origin.group.as_deref() == Some("ROMEO")).cloned();
            parts(&own.collect::<Vec<_>>())
        };
        (own(loaded.train()), own(loaded.test()))
    };
    let (alone, both) = (split(&verse("ROMEO", 9)), split(&(verse("JULIET", 5) + &verse("ROMEO", 9))));
    // 9 lines of 24 characters in windows of 11: 20 windows, of which a quarter is tested.
    assert_eq!((alone.0.len(), alone.1.len()), (15, 5));
    assert_eq!(alone, both);
}

#[test]
fn files_are_clients_of_a_language_model_too() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("b", "bbbb"), ("a", "aaaaaaaa")] {
        fs::write(folder.path().join(format!("{name}.txt")), content).unwrap();
    }
    let config = DataConfig { max_length: 5, ..DataConfig::new(folder.path()) };
    let loaded = LoadedPassages::load_site(&config, &tokenizer(), SEED).unwrap();
    assert_eq!(loaded.client_names().unwrap(), ["a", "b"]);
    assert_eq!(loaded.clients().unwrap(), [vec![0, 1], vec![2]]);
    let error = LoadedPassages::load(&config, &tokenizer(), SEED).unwrap_err().to_string();
    assert!(error.contains("leaves no test rows"), "{error}");
}

#[test]
fn settings_of_the_other_kind_of_model_are_refused() {
    let refused = |change: fn(&mut DataConfig)| read("train.jsonl", GSM8K, change).unwrap_err().to_string();
    let error = refused(|config| config.label_column = Some(Column::Name("answer".to_owned())));
    assert_eq!(error, "`label-column` makes no sense for a causal language model with such data: leave it out");
    assert!(refused(|config| config.min_characters = 5).starts_with("`min-characters` makes no sense"));
    assert!(refused(|config| config.max_length = 1).contains("leave no room in 1"));
    let config = DataConfig { format: Format::Plays, ..DataConfig::new("play.txt") };
    let error = LoadedText::load(&config, SEED).unwrap_err().to_string();
    assert_eq!(error, "`format` makes no sense for a classifier with such data: leave it out");
}

#[test]
fn a_chat_template_makes_a_conversation_of_which_the_assistants_part_is_predicted() {
    // A form as in ChatML, with methods of Python's strings; what it makes was computed with jinja2 3.1.6 in the settings of
    // `transformers`.
    let template = "{%- if messages[0]['role'] != 'user' %}{{ raise_exception('no') }}{% endif %}{{ bos_token }}\
                    {% for message in messages %}\n    {{- '[' + message.role + ']' + message['content'].strip() + eos_token }}\n\
                    {% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}\n";
    let config = serde_json::json!({ "bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": template });
    let (folder, model) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("train.jsonl"), GSM8K).unwrap();
    let data = DataConfig { chat_template: true, ..DataConfig::new(folder.path().join("train.jsonl")) };
    let tokenizer = |config: &str| {
        letters::write(model.path(), true);
        fs::write(model.path().join("tokenizer_config.json"), config).unwrap();
        TextTokenizer::from_directory(model.path()).unwrap()
    };
    let loaded = LoadedPassages::load_site(&data, &tokenizer(&config.to_string()), SEED).unwrap();
    assert_eq!(parts(loaded.train())[1], pair("^[user]3-1?$\n[assistant]", "#### 2$\n"));
    // Without a template of its own a model cannot be trained so.
    let error = LoadedPassages::load_site(&data, &tokenizer(r#"{"eos_token": "</s>"}"#), SEED).unwrap_err().to_string();
    assert!(error.ends_with(": chat template: there is none"), "{error}");
}

#[test]
fn the_token_that_ends_a_response_is_named_by_either_file() {
    let end = |files: &[(&str, &str)]| letters::tokenizer(true, files).and_then(|tokenizer| tokenizer.end());
    assert_eq!(end(&[("config.json", r#"{"eos_token_id": 1}"#)]).unwrap(), END);
    let config = ("config.json", r#"{"eos_token_id": 0}"#);
    assert_eq!(end(&[config, ("tokenizer_config.json", r#"{"eos_token": "</s>"}"#)]).unwrap(), END);
    assert_eq!(end(&[config, ("tokenizer_config.json", r#"{"eos_token": {"content": "</s>"}}"#)]).unwrap(), END);
    let error = end(&[("config.json", r#"{"eos_token_id": null}"#)]).unwrap_err().to_string();
    assert!(error.contains("expected eos_token in tokenizer_config.json or eos_token_id in config.json"), "{error}");
}
