//! What the files beside `tokenizer.json` say of special tokens and conversations.

use std::{fs, io, path::Path};

use serde::{Deserialize, de::DeserializeOwned};

use crate::LearnerError;

/// Names of special tokens, and perhaps the chat template.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The chat template, where it has a file of its own.
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// What a model directory says besides; nothing where it has no such files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenizerConfig {
    /// The token that begins a sequence.
    pub(crate) start: Option<String>,
    /// The token that ends a sequence.
    pub(crate) end: Option<String>,
    /// How conversations become text, in Jinja.
    pub(crate) chat_template: Option<String>,
}

impl TokenizerConfig {
    /// Reads a directory's `tokenizer_config.json` and `chat_template.jinja`, as far as they are there.
    pub(crate) fn read(directory: &Path) -> Result<Self, LearnerError> {
        let file: File = json(&directory.join(TOKENIZER_CONFIG))?.unwrap_or_default();
        let own = text(&directory.join(CHAT_TEMPLATE))?;
        Ok(Self {
            start: file.bos_token.map(Token::content),
            end: file.eos_token.map(Token::content),
            chat_template: own.or_else(|| file.chat_template?.preferred()),
        })
    }
}

/// What says how a model writes text.
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";

/// The tokens that end a sequence by the file, `config.json` or `generation_config.json`; none where there is no such file.
pub(super) fn numbered_ends(file: &Path) -> Result<Vec<u32>, LearnerError> {
    #[derive(Deserialize)]
    struct Model {
        eos_token_id: Option<Ids>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ids {
        One(u32),
        Several(Vec<u32>),
    }
    let model: Option<Model> = json(file)?;
    Ok(match model.and_then(|model| model.eos_token_id) {
        None => Vec::new(),
        Some(Ids::One(id)) => vec![id],
        Some(Ids::Several(ids)) => ids,
    })
}

/// The parts used of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct File {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    chat_template: Option<Templates>,
}

/// A token as `transformers` writes it: its text, or an object around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Plain(String),
    Added { content: String },
}

impl Token {
    fn content(self) -> String {
        match self {
            Self::Plain(content) | Self::Added { content } => content,
        }
    }
}

/// One template, or several by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Several(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

impl Templates {
    fn preferred(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Several(all) => all.into_iter().find(|named| named.name == "default").map(|named| named.template),
        }
    }
}

/// A file that may be absent.
fn text(file: &Path) -> Result<Option<String>, LearnerError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LearnerError::Io { file: file.to_owned(), source }),
    }
}

/// The same as JSON.
fn json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, LearnerError> {
    let Some(text) = text(file)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|source| LearnerError::Json { file: file.to_owned(), source })
}
