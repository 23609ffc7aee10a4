//! Text from a language model, one token after another.

mod sampling;

use fedlora_adapter::{Adapter, Factors};
use serde::{Deserialize, Serialize};

use self::sampling::Choice;
use crate::{Decoder, GroupedAdapter, KeyValueCache, LearnerError, Model, evaluate::read};

/// How a text is continued, in the names of `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Generation {
    /// Tokens after the prompt at most.
    pub max_new_tokens: usize,
    /// Logits are divided by it before a token is drawn; at 0 the likeliest token is taken.
    pub temperature: f64,
    /// Only so many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only as many of the likeliest tokens are drawn from as have this probability together (arXiv 1904.09751,
    /// section 3.1); 1 for all.
    pub top_p: f64,
    /// What draws follow from.
    pub seed: u64,
}

impl Default for Generation {
    fn default() -> Self {
        Self { max_new_tokens: 64, temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Generation {
    fn check(&self) -> Result<(), LearnerError> {
        let refuse = |key, found: f64, expected: &str| {
            Err(LearnerError::Generation { key, found: found.to_string(), expected: expected.to_owned() })
        };
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", self.temperature, "0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top-p", self.top_p, "above 0 and at most 1");
        }
        Ok(())
    }
}

/// The tokens behind a prompt: until one of the model's end tokens, which is the last of them then, until there are as many
/// as allowed, or until the sequence is as long as the model was made for.
///
/// Equal seeds give equal tokens, whatever the number of threads.
///
/// # Errors
/// [`LearnerError::NotADecoder`] for a model that predicts labels, [`LearnerError::Generation`] for a setting or a prompt that
/// makes no sense, and what [`Model::check`] finds in the adapter.
pub fn generate(
    model: &dyn Model,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    generation: &Generation,
) -> Result<Vec<u32>, LearnerError> {
    let decoder = model.decoder().ok_or(LearnerError::NotADecoder)?;
    generation.check()?;
    check_prompt(decoder, prompt)?;
    let group = |adapter: &Adapter| {
        model.check(adapter.spec())?;
        GroupedAdapter::new(&[adapter], Factors::Neither, false, &model.device())
    };
    let adapters = adapter.map(group).transpose()?;
    let room = decoder.longest() - prompt.len();
    let (mut choice, mut cache) = (Choice::new(generation), KeyValueCache::default());
    let mut tokens = Vec::new();
    while tokens.len() < generation.max_new_tokens.min(room) {
        let unseen = tokens.last().map_or(prompt, std::slice::from_ref);
        let logits = read(decoder.next(unseen, &mut cache, adapters.as_ref()))?;
        let token = choice.of(&logits);
        tokens.push(token);
        if decoder.end_tokens().contains(&token) {
            break;
        }
    }
    Ok(tokens)
}

fn check_prompt(decoder: &dyn Decoder, prompt: &[u32]) -> Result<(), LearnerError> {
    let refuse = |found, expected| Err(LearnerError::Generation { key: "prompt", found, expected });
    let (longest, vocabulary) = (decoder.longest(), decoder.vocabulary());
    if prompt.is_empty() || prompt.len() > longest {
        return refuse(format!("{} tokens long", prompt.len()), format!("1 to {longest} tokens"));
    }
    match prompt.iter().find(|&&token| token as usize >= vocabulary) {
        Some(token) => refuse(format!("token {token}"), format!("tokens below {vocabulary}")),
        None => Ok(()),
    }
}
