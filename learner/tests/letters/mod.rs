//! A tokenizer with one token for each character, so that tests can read sequences as texts.

use std::{fs, path::Path};

use fedlora_learner::{LearnerError, TextTokenizer};
use serde_json::{Map, Value, json};

/// The first of the tokens that are characters; before it come `<s>` and `</s>`.
const FIRST: u32 = 2;
/// The token that ends a sequence.
pub(crate) const END: u32 = 1;

/// Writes `tokenizer.json` of printable ASCII and the line feed; with `start`, `<s>` begins every text.
pub(crate) fn write(directory: &Path, start: bool) {
    let letters = (b' '..=b'~').chain([b'\n']).map(char::from);
    let letters = letters.zip(FIRST..).map(|(letter, id)| (letter.to_string(), json!(id)));
    let special = [("<s>", 0), ("</s>", END)].map(|(token, id)| (token.to_owned(), json!(id)));
    let vocabulary: Map<String, Value> = special.into_iter().chain(letters).collect();
    let added = [(0, "<s>"), (END, "</s>")].map(|(id, content)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let processor = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": null, "post_processor": if start { processor } else { Value::Null }, "decoder": null,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": null, "fuse_unk": false},
    });
    fs::write(directory.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// The tokenizer of a directory in which `files` lie besides.
pub(crate) fn tokenizer(start: bool, files: &[(&str, &str)]) -> Result<TextTokenizer, LearnerError> {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), start);
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    TextTokenizer::from_directory(directory.path())
}

/// Tokens as text: `^` for the beginning and `$` for the end.
pub(crate) fn text(ids: &[u32]) -> String {
    let letters: Vec<char> = (b' '..=b'~').chain([b'\n']).map(char::from).collect();
    let letter = |&id: &u32| match id {
        0 => '^',
        END => '$',
        id => letters[(id - FIRST) as usize],
    };
    ids.iter().map(letter).collect()
}
