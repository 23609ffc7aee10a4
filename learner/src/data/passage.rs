//! Examples of causal language models: tokens, and which of them are to be predicted.

use std::{path::Path, sync::Arc};

use super::{DataConfig, Origin, Record, chat::ChatTemplate};
use crate::{LearnerError, TextTokenizer};

/// Between a prompt and its response; the reader takes white space off both.
const SEPARATOR: &str = "\n";

/// Tokens of which the first are given and each of the others is predicted from all before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Tokens at the beginning that are given: at least 1, and fewer than all.
    pub given: usize,
}

/// A prompt that can be put to a model, and what is to follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Tokens of the prompt, which the sequence begins with.
    pub prompt: usize,
    /// The whole response, whatever part of it the sequence holds.
    pub response: Arc<str>,
}

/// A sequence and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Its tokens.
    pub sequence: Sequence,
    /// What is asked in it; nothing in running text, and where the sequence is cut within its prompt.
    pub question: Option<Question>,
    /// Where its row stands, and whose it is.
    pub origin: Origin,
}

/// How rows become sequences of a model's tokens.
#[derive(Debug)]
pub(super) struct Cutter<'a> {
    tokenizer: &'a TextTokenizer,
    /// What the tokenizer puts in front of every text.
    start: Vec<u32>,
    max_length: usize,
    loss_on_prompt: bool,
    chat: Option<ChatTemplate>,
}

impl<'a> Cutter<'a> {
    /// Fails where `max-length` leaves no room for a token behind the first.
    pub(super) fn new(tokenizer: &'a TextTokenizer, config: &DataConfig) -> Result<Self, LearnerError> {
        let start = tokenizer.encode_prompt("")?;
        if config.max_length <= start.len().max(1) {
            let (file, given) = (tokenizer.file().to_owned(), start.len().max(1));
            let reason =
                format!("{given} tokens before the first predicted one leave no room in {}", config.max_length);
            return Err(LearnerError::Tokenizer { file, reason });
        }
        let directory = tokenizer.file().parent().unwrap_or(Path::new("."));
        let chat = config.chat_template.then(|| ChatTemplate::read(directory)).transpose()?;
        Ok(Self { tokenizer, start, max_length: config.max_length, loss_on_prompt: config.loss_on_prompt, chat })
    }

    /// The passages of one row: none where its prompt leaves no room for its response, several of running text.
    pub(super) fn passages(&self, row: &Record) -> Result<Vec<Passage>, LearnerError> {
        if !row.label.is_empty() {
            return Ok(self.response(row)?.into_iter().collect());
        }
        let passage = |sequence| Passage { sequence, question: None, origin: row.origin.clone() };
        Ok(self.windows(&row.text)?.into_iter().map(passage).collect())
    }

    /// A prompt and its response with the token that ends it, cut at the end.
    ///
    /// The two are tokenized apart, as they are where the response is the model's own: which tokens are the response's
    /// is exact, and no token lies across.
    fn response(&self, row: &Record) -> Result<Option<Passage>, LearnerError> {
        let (mut ids, response) = self.prompt_and_response(row)?;
        let prompt = ids.len();
        let given = if self.loss_on_prompt { 1 } else { prompt.max(1) };
        ids.extend(response);
        ids.truncate(self.max_length);
        if given >= ids.len() {
            return Ok(None);
        }
        let question = Question { prompt, response: row.label.as_str().into() };
        let question = (1..ids.len()).contains(&prompt).then_some(question);
        Ok(Some(Passage { sequence: Sequence { ids, given }, question, origin: row.origin.clone() }))
    }

    fn prompt_and_response(&self, row: &Record) -> Result<(Vec<u32>, Vec<u32>), LearnerError> {
        let pair = row.pair.iter().flat_map(|pair| [SEPARATOR, pair.as_str()]);
        let prompt: String = std::iter::once(row.text.as_str()).chain(pair).collect();
        if let Some(chat) = &self.chat {
            // Special tokens stand in the template.
            let (prompt, response) = chat.render(&prompt, &row.label)?;
            return Ok((self.tokenizer.encode_continuation(&prompt)?, self.tokenizer.encode_continuation(&response)?));
        }
        let mut response = self.tokenizer.encode_continuation(&row.label)?;
        response.push(self.tokenizer.end()?);
        Ok((self.tokenizer.encode_prompt(&(prompt + SEPARATOR))?, response))
    }

    /// Running text in windows: every token is predicted in exactly one of them, but the very first one of a text where
    /// the tokenizer puts none in front.
    fn windows(&self, text: &str) -> Result<Vec<Sequence>, LearnerError> {
        let ids = self.tokenizer.encode_continuation(text)?;
        if !self.start.is_empty() {
            let given = self.start.len();
            let window = |own: &[u32]| Sequence { ids: [self.start.as_slice(), own].concat(), given };
            return Ok(ids.chunks(self.max_length - given).map(window).collect());
        }
        let places = (1..ids.len()).step_by(self.max_length - 1);
        let window = |first: usize| &ids[first - 1..(first + self.max_length - 1).min(ids.len())];
        Ok(places.map(|first| Sequence { ids: window(first).to_vec(), given: 1 }).collect())
    }
}
