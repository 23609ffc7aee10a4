//! Prompts and responses as a conversation, in the words that a model was tuned on: the template that `transformers` applies
//! in `apply_chat_template`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig};
use minijinja_contrib::pycompat;

use crate::{LearnerError, tokenizer::TokenizerConfig};

const NAME: &str = "chat";

/// A model's chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    directory: PathBuf,
    environment: Environment<'static>,
    start: String,
    end: String,
}

impl ChatTemplate {
    /// The template of a model directory.
    pub(super) fn read(directory: &Path) -> Result<Self, LearnerError> {
        let config = TokenizerConfig::read(directory)?;
        let mut chat = Self {
            directory: directory.to_owned(),
            environment: Environment::new(),
            start: config.start.unwrap_or_default(),
            end: config.end.unwrap_or_default(),
        };
        // As in `transformers`, whose templates are written for it.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        chat.environment.set_syntax(syntax.map_err(|error| chat.refuse(&error.to_string()))?);
        chat.environment.set_unknown_method_callback(pycompat::unknown_method_callback);
        chat.environment.add_function("raise_exception", raise);
        let template = config.chat_template.ok_or_else(|| chat.refuse("there is none"))?;
        let added = chat.environment.add_template_owned(NAME, template);
        added.map_err(|error| chat.refuse(&error.to_string()))?;
        Ok(chat)
    }

    /// What follows an assistant's words in a directory's template; none without a template that can be applied.
    pub(crate) fn turn_end(directory: &Path) -> Option<String> {
        const WORDS: &str = "words";
        let (_, response) = Self::read(directory).ok()?.render(WORDS, WORDS).ok()?;
        response.split_once(WORDS).map(|(_, end)| end.to_owned())
    }

    /// The conversation up to where the assistant answers, and all that follows when it has.
    pub(super) fn render(&self, user: &str, assistant: &str) -> Result<(String, String), LearnerError> {
        let (question, answer) = (message("user", user), message("assistant", assistant));
        let prompt = self.conversation(vec![question.clone()], true)?;
        let whole = self.conversation(vec![question, answer], false)?;
        let response = whole.strip_prefix(&prompt);
        let response = response.ok_or_else(|| self.refuse("a conversation does not begin with its own prompt"))?;
        Ok((prompt, response.to_owned()))
    }

    fn conversation(&self, messages: Vec<Value>, asks: bool) -> Result<String, LearnerError> {
        let context = context! {
            messages,
            bos_token => &self.start,
            eos_token => &self.end,
            add_generation_prompt => asks,
        };
        let rendered = self.environment.get_template(NAME).and_then(|template| template.render(context));
        rendered.map_err(|error| self.refuse(&error.to_string()))
    }

    fn refuse(&self, reason: &str) -> LearnerError {
        LearnerError::ChatTemplate { directory: self.directory.clone(), reason: reason.to_owned() }
    }
}

fn message(role: &str, content: &str) -> Value {
    Value::from(BTreeMap::from([("role", Value::from(role)), ("content", Value::from(content))]))
}

/// What templates call where a conversation is not one of theirs.
fn raise(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}
