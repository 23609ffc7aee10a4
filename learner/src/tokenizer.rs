//! Text to token ids and back, by the model's own `tokenizer.json`.

mod config;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use tokenizers::{EncodeInput, Encoding, Tokenizer, TruncationParams};

use crate::{LearnerError, Tokens, data::ChatTemplate};

/// Share of a model's embeddings that its tokenizer must have tokens for. Embeddings are padded to round numbers, by
/// less than a hundredth in the models at hand; a tokenizer that leaves more of them without a token is another one's.
const LEAST_COVERAGE: f64 = 0.9;

pub(crate) use config::{CHAT_TEMPLATE, GENERATION_CONFIG, TOKENIZER_CONFIG, TokenizerConfig};

/// The tokenizer's file in a model directory.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// A Hugging Face tokenizer, without the padding and truncation that its file may ask for.
#[derive(Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    file: PathBuf,
    end: Option<u32>,
    /// Where a model of the directory stops to write.
    ends: Vec<u32>,
    /// The most tokens that a text can have, whatever is asked for.
    longest: usize,
}

impl fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextTokenizer").field("file", &self.file).finish_non_exhaustive()
    }
}

impl TextTokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// [`LearnerError::Tokenizer`] for a file that is missing or no tokenizer.
    pub fn from_file(file: &Path) -> Result<Self, LearnerError> {
        let unusable =
            |error: tokenizers::Error| LearnerError::Tokenizer { file: file.into(), reason: error.to_string() };
        let mut tokenizer = Tokenizer::from_file(file).map_err(unusable)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(unusable)?;
        Ok(Self { tokenizer, file: file.into(), end: None, ends: Vec::new(), longest: usize::MAX })
    }

    /// Reads a model directory's `tokenizer.json` and, as far as they are there, `tokenizer_config.json`, `config.json` and
    /// `generation_config.json`, which tell the tokens that end a sequence.
    ///
    /// # Errors
    /// As [`TextTokenizer::from_file`]; [`LearnerError::Json`] for one of the others that makes no sense.
    pub fn from_directory(directory: &Path) -> Result<Self, LearnerError> {
        let mut tokenizer = Self::from_file(&directory.join(TOKENIZER))?;
        let named = TokenizerConfig::read(directory)?.end;
        let named = named.and_then(|token| tokenizer.tokenizer.token_to_id(&token));
        tokenizer.ends = config::numbered_ends(&directory.join("config.json"))?;
        tokenizer.end = named.or(tokenizer.ends.first().copied());
        tokenizer.ends.extend(named);
        tokenizer.ends.extend(config::numbered_ends(&directory.join(GENERATION_CONFIG))?);
        tokenizer.ends.extend(ChatTemplate::turn_end(directory).and_then(|text| tokenizer.first_special(&text)));
        Ok(tokenizer)
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The token that ends a sequence.
    ///
    /// # Errors
    /// [`LearnerError::NoEnd`] where the model's directory names none.
    pub fn end(&self) -> Result<u32, LearnerError> {
        self.end.ok_or_else(|| LearnerError::NoEnd { file: self.file.clone() })
    }

    /// All tokens at which a model of the directory stops to write: [`TextTokenizer::end`], those that `config.json` and
    /// `generation_config.json` name, and the one behind a turn in the chat template.
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The first special token of a text.
    fn first_special(&self, text: &str) -> Option<u32> {
        let special = self.tokenizer.get_added_tokens_decoder();
        let ids = self.encode_continuation(text).ok()?;
        ids.into_iter().find(|id| special.get(id).is_some_and(|token| token.special))
    }

    /// The same tokenizer for a model with this many positions: no text will have more tokens.
    ///
    /// # Errors
    /// As [`TextTokenizer::truncated`].
    pub fn within(mut self, positions: usize) -> Result<Self, LearnerError> {
        self.longest = positions;
        self.truncated(positions)
    }

    /// Checks that the tokens are those of a model with this many token embeddings.
    ///
    /// # Errors
    /// [`LearnerError::Vocabulary`] where a token has no embedding, or many embeddings no token.
    pub fn check(&self, vocabulary: usize) -> Result<(), LearnerError> {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        let tokens = largest.map_or(0, |id| id as usize + 1);
        if tokens <= vocabulary && tokens as f64 >= LEAST_COVERAGE * vocabulary as f64 {
            return Ok(());
        }
        Err(LearnerError::Vocabulary { file: self.file.clone(), tokens, vocabulary })
    }

    /// The same tokenizer for at most this many tokens a text, special tokens included, or as many as its model has
    /// positions; of two texts the longer one is cut first, as `transformers` does by default.
    ///
    /// # Errors
    /// [`LearnerError::Tokenizer`] where so few tokens have no room for the special ones.
    pub fn truncated(mut self, max_length: usize) -> Result<Self, LearnerError> {
        let unusable = |file: &Path, reason| LearnerError::Tokenizer { file: file.into(), reason };
        let max_length = max_length.min(self.longest);
        let special = self.tokenizer.get_post_processor().map_or(0, |processor| {
            use tokenizers::PostProcessor;
            processor.added_tokens(true)
        });
        if max_length <= special {
            return Err(unusable(&self.file, format!("{special} special tokens leave no room in {max_length} tokens")));
        }
        let params = TruncationParams { max_length, ..TruncationParams::default() };
        let file = &self.file;
        self.tokenizer.with_truncation(Some(params)).map_err(|error| unusable(file, error.to_string()))?;
        Ok(self)
    }

    /// The tokens of one text, with special tokens.
    ///
    /// # Errors
    /// [`LearnerError::Encode`] for a text that the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Tokens, LearnerError> {
        self.tokens(text.into(), text.len())
    }

    /// The tokens of two texts, as the model's task with sentence pairs expects them.
    ///
    /// # Errors
    /// [`LearnerError::Encode`] for texts that the tokenizer refuses.
    pub fn encode_pair(&self, text: &str, pair: &str) -> Result<Tokens, LearnerError> {
        self.tokens((text, pair).into(), text.len() + pair.len())
    }

    /// The tokens of a text that others are to follow: with the special tokens in front of it, and none behind.
    ///
    /// # Errors
    /// [`LearnerError::Encode`] for a text that the tokenizer refuses.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, LearnerError> {
        let mut ids = self.encode(text)?.ids;
        // Some tokenizers end every sequence by themselves.
        if ids.last().copied() == self.end && !ids.is_empty() {
            ids.pop();
        }
        Ok(ids)
    }

    /// The tokens of a text that follows others: without special tokens.
    ///
    /// # Errors
    /// [`LearnerError::Encode`] for a text that the tokenizer refuses.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, LearnerError> {
        Ok(self.encoding(text.into(), text.len(), false)?.get_ids().to_vec())
    }

    /// The text of some tokens, without special ones.
    ///
    /// # Errors
    /// [`LearnerError::Decode`] for tokens that the tokenizer refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String, LearnerError> {
        let decoded = self.tokenizer.decode(ids, true);
        decoded.map_err(|error| LearnerError::Decode { tokens: ids.len(), reason: error.to_string() })
    }

    fn tokens(&self, input: EncodeInput<'_>, bytes: usize) -> Result<Tokens, LearnerError> {
        let encoding = self.encoding(input, bytes, true)?;
        let segments = encoding.get_type_ids().iter().map(|&segment| segment as u8).collect();
        Ok(Tokens { ids: encoding.get_ids().to_vec(), segments })
    }

    fn encoding(&self, input: EncodeInput<'_>, bytes: usize, special: bool) -> Result<Encoding, LearnerError> {
        let encoded = self.tokenizer.encode_fast(input, special);
        encoded.map_err(|error| LearnerError::Encode { bytes, reason: error.to_string() })
    }
}
