//! Text from a language model, one token after another.

mod sampling;

use fedlora_adapter::{Adapter, Factors};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::sampling::Choice;
use crate::{Decoder, GroupedAdapter, KeyValueCache, LearnerError, Model, evaluate::read};

/// Texts that are written side by side at most, on each thread: each weight is read once for all of them.
const LANES: usize = 32;
/// Keys and values in memory for them at most, 512 MiB on each thread; one text is always written.
const CACHED_VALUES: usize = 1 << 27;

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
    Ok(generate_all(model, adapter, &[prompt], generation)?.concat())
}

/// As [`generate`], of many prompts at a time and as fast as the processor allows: a text is the one that its prompt has
/// alone, bit for bit.
///
/// # Errors
/// As [`generate`].
pub fn generate_all(
    model: &dyn Model,
    adapter: Option<&Adapter>,
    prompts: &[&[u32]],
    generation: &Generation,
) -> Result<Vec<Vec<u32>>, LearnerError> {
    let decoder = model.decoder().ok_or(LearnerError::NotADecoder)?;
    generation.check()?;
    prompts.iter().try_for_each(|prompt| check_prompt(decoder, prompt))?;
    let group = |adapter: &Adapter| {
        model.check(adapter.spec())?;
        GroupedAdapter::new(&[adapter], Factors::Neither, false, &model.device())
    };
    let adapters = adapter.map(group).transpose()?;
    let share = prompts.len().div_ceil(rayon::current_num_threads()).max(1);
    let write = |prompts: &[&[u32]]| Writer { decoder, adapters: adapters.as_ref(), prompts, generation }.write();
    let texts: Vec<Vec<Vec<u32>>> = prompts.par_chunks(share).map(write).collect::<Result<_, _>>()?;
    Ok(texts.concat())
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

/// Writes the texts of some prompts on one thread. Whenever one is finished, the next begins in its place.
struct Writer<'a> {
    decoder: &'a dyn Decoder,
    adapters: Option<&'a GroupedAdapter>,
    prompts: &'a [&'a [u32]],
    generation: &'a Generation,
}

/// A text in the making: the prompt's number, and how tokens are chosen.
struct Lane {
    prompt: usize,
    choice: Choice,
}

impl Writer<'_> {
    fn write(&self) -> Result<Vec<Vec<u32>>, LearnerError> {
        let mut texts = vec![Vec::new(); self.prompts.len()];
        let mut waiting = (0..self.prompts.len()).filter(|&prompt| self.most(prompt) > 0);
        let mut lanes: Vec<Option<Lane>> = (0..self.lanes()).map(|_| None).collect();
        let mut cache = KeyValueCache::new(lanes.len());
        loop {
            for (place, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.is_none()) {
                *lane = waiting.next().map(|prompt| Lane { prompt, choice: Choice::new(self.generation) });
                cache.forget(place);
            }
            let unseen: Vec<&[u32]> = lanes.iter().map(|lane| self.unseen(lane.as_ref(), &texts)).collect();
            if unseen.iter().all(|tokens| tokens.is_empty()) {
                return Ok(texts);
            }
            let logits = read(self.decoder.next(&unseen, &mut cache, self.adapters))?;
            let rows = logits.chunks_exact(self.decoder.vocabulary());
            for (place, logits) in lanes.iter_mut().filter(|lane| lane.is_some()).zip(rows) {
                let Some(lane) = place else { continue };
                let text = &mut texts[lane.prompt];
                let token = lane.choice.of(logits);
                text.push(token);
                if self.decoder.end_tokens().contains(&token) || text.len() == self.most(lane.prompt) {
                    *place = None;
                }
            }
        }
    }

    /// Tokens that a prompt's text can have.
    fn most(&self, prompt: usize) -> usize {
        self.generation.max_new_tokens.min(self.decoder.longest() - self.prompts[prompt].len())
    }

    /// What the model has not seen of a text: its prompt, or its last token; nothing of none.
    fn unseen<'b>(&'b self, lane: Option<&Lane>, texts: &'b [Vec<u32>]) -> &'b [u32] {
        let Some(Lane { prompt, .. }) = lane else { return &[] };
        texts[*prompt].last().map_or(self.prompts[*prompt], std::slice::from_ref)
    }

    /// Texts to write side by side.
    fn lanes(&self) -> usize {
        let tokens = |prompt: usize| self.prompts[prompt].len() + self.most(prompt);
        let longest = (0..self.prompts.len()).map(tokens).max().unwrap_or(1);
        let fitting = CACHED_VALUES / (self.decoder.cached_values() * longest).max(1);
        fitting.clamp(1, LANES).min(self.prompts.len())
    }
}
