//! How often a language model's own answer is the right one.

use fedlora_adapter::Adapter;
use serde::{Deserialize, Serialize};

use super::{answer::AnswerForm, check_rows};
use crate::{Dataset, Decoder, Generation, LearnerError, Model, TextTokenizer, generate::generate_all};

/// Tests by generation: prompts of test rows are put to the model, and what it writes is held against the responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ExactMatch {
    /// What of a text is the answer: `last-number` or `whole-string`.
    pub answer: AnswerForm,
    /// Tokens that the model may write for an answer; it also stops at every token that ends a text.
    pub max_new_tokens: usize,
    /// Prompts of each test set, evenly spread over its rows; 0 for all.
    pub max_rows: usize,
}

impl Default for ExactMatch {
    fn default() -> Self {
        Self { answer: AnswerForm::default(), max_new_tokens: 256, max_rows: 0 }
    }
}

/// Prompts with their right answers, to be put to many adapters.
#[derive(Debug, Clone)]
pub struct Questions {
    prompts: Vec<Vec<u32>>,
    answers: Vec<String>,
    settings: ExactMatch,
    tokenizer: Box<TextTokenizer>,
}

impl Questions {
    /// The questions in some rows of a data set.
    ///
    /// # Errors
    /// [`LearnerError::NoQuestions`] where no row asks anything, as in running text and in labelled data;
    /// [`LearnerError::NoAnswer`] for a response in which there is no answer; [`LearnerError::Generation`] for no tokens to
    /// write; [`LearnerError::RowOutOfRange`].
    pub fn new(
        dataset: &Dataset,
        rows: &[u32],
        tokenizer: &TextTokenizer,
        settings: ExactMatch,
    ) -> Result<Self, LearnerError> {
        check_rows(dataset, rows)?;
        if settings.max_new_tokens == 0 {
            let (found, expected) = ("0".to_owned(), "at least 1".to_owned());
            return Err(LearnerError::Generation { key: "exact-match.max-new-tokens", found, expected });
        }
        let asked: Vec<(&[u32], &str)> = rows.iter().filter_map(|&row| dataset.question(row)).collect();
        if asked.is_empty() {
            return Err(LearnerError::NoQuestions);
        }
        let count = if settings.max_rows == 0 { asked.len() } else { settings.max_rows.min(asked.len()) };
        let chosen = (0..count).map(|index| asked[index * asked.len() / count]);
        let answer = |(prompt, response): (&[u32], &str)| match settings.answer.answer(response) {
            Some(answer) => Ok((prompt.to_vec(), answer)),
            None => Err(LearnerError::NoAnswer { response: response.chars().take(80).collect() }),
        };
        let (prompts, answers) = chosen.map(answer).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        Ok(Self { prompts, answers, settings, tokenizer: Box::new(tokenizer.clone()) })
    }

    /// Number of questions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.prompts.len()
    }

    /// Share of the questions that a model with an adapter answers rightly, by the likeliest tokens (greedily).
    ///
    /// # Errors
    /// As [`generate_all`]; tokens that the tokenizer refuses.
    pub fn exact_match(&self, model: &dyn Model, adapter: &Adapter) -> Result<f64, LearnerError> {
        let generation = Generation { max_new_tokens: self.settings.max_new_tokens, ..Generation::default() };
        let prompts: Vec<&[u32]> = self.prompts.iter().map(Vec::as_slice).collect();
        let texts = generate_all(model, Some(adapter), &prompts, &generation)?;
        let ends = model.decoder().map_or(&[][..], Decoder::end_tokens);
        let mut right = 0;
        for (text, answer) in texts.iter().zip(&self.answers) {
            // The token that ends a text is no part of it, whether the tokenizer calls it a special one or not.
            let written =
                text.split_last().filter(|(last, _)| ends.contains(last)).map_or(text.as_slice(), |(_, text)| text);
            let text = self.tokenizer.decode(written)?;
            right += usize::from(self.settings.answer.answer(&text).as_ref() == Some(answer));
        }
        Ok(right as f64 / self.count() as f64)
    }
}
