//! Which token comes next, given logits.

use fedlora_adapter::{Purpose, Seed};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::Generation;
use crate::evaluate::largest;

/// Greedy, or by draws from one stream.
#[derive(Debug)]
pub(super) enum Choice {
    Greedy,
    Drawn { rng: Box<ChaCha12Rng>, temperature: f64, top_k: usize, top_p: f64 },
}

impl Choice {
    pub(super) fn new(generation: &Generation) -> Self {
        let &Generation { temperature, top_k, top_p, seed, .. } = generation;
        if temperature == 0.0 {
            return Self::Greedy;
        }
        Self::Drawn { rng: Box::new(Seed(seed).run(Purpose::Generation)), temperature, top_k, top_p }
    }

    /// The next token; logits must not be empty.
    pub(super) fn of(&mut self, logits: &[f32]) -> u32 {
        match self {
            Self::Greedy => largest(logits),
            Self::Drawn { rng, temperature, top_k, top_p } => {
                let candidates = candidates(logits, *temperature, *top_k, *top_p);
                draw(&candidates, rng.random())
            }
        }
    }
}

/// Tokens that may be drawn with their unnormalised probabilities, likeliest first.
fn candidates(logits: &[f32], temperature: f64, top_k: usize, top_p: f64) -> Vec<(u32, f64)> {
    let mut tokens: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    // A stable sort: of equals the first stays first.
    tokens.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    if top_k > 0 {
        tokens.truncate(top_k);
    }
    let top = tokens.first().map_or(0.0, |&(_, logit)| f64::from(logit));
    let weight = |(token, logit)| (token, ((f64::from(logit) - top) / temperature).exp());
    let mut weighted: Vec<(u32, f64)> = tokens.into_iter().map(weight).collect();
    let needed = top_p * weighted.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    // A token stays if those before it are not enough; the first one always does.
    let kept = weighted.iter().take_while(|(_, weight)| {
        let stays = sum < needed;
        sum += weight;
        stays
    });
    let kept = kept.count().max(1);
    weighted.truncate(kept);
    weighted
}

/// The token at the place `share`, in [0, 1), of all probability.
fn draw(candidates: &[(u32, f64)], share: f64) -> u32 {
    let mut rest = share * candidates.iter().map(|(_, weight)| weight).sum::<f64>();
    for &(token, weight) in candidates {
        if rest < weight {
            return token;
        }
        rest -= weight;
    }
    // Rounding may leave a little of the last token's share.
    candidates.last().map_or(0, |&(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, 2.0];

    fn tokens(top_k: usize, top_p: f64) -> Vec<u32> {
        candidates(&LOGITS, 1.0, top_k, top_p).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn candidates_are_the_likeliest_tokens_by_number_and_by_probability() {
        assert_eq!(tokens(0, 1.0), [1, 3, 2, 0]);
        assert_eq!(tokens(3, 1.0), [1, 3, 2]);
        // e², e², e and 1 are 0.398, 0.398, 0.146 and 0.054 of their sum.
        assert_eq!(tokens(0, 0.39), [1]);
        assert_eq!(tokens(0, 0.4), [1, 3]);
        assert_eq!(tokens(0, 0.8), [1, 3, 2]);
        assert_eq!(tokens(0, f64::MIN_POSITIVE), [1]);
        // Among the first three alone, the first two have 0.845.
        assert_eq!(tokens(3, 0.84), [1, 3]);
    }

    #[test]
    fn each_token_has_its_share_of_the_draws() {
        let exps: Vec<f64> = LOGITS.iter().map(|&logit| (f64::from(logit) / 2.0).exp()).collect();
        let candidates = candidates(&LOGITS, 2.0, 0, 1.0);
        let count = 10_000_u32;
        let drawn: Vec<u32> = (0..count).map(|k| draw(&candidates, f64::from(k) / f64::from(count))).collect();
        for (token, exp) in (0..).zip(&exps) {
            let found = drawn.iter().filter(|&&other| other == token).count() as f64 / f64::from(count);
            // Evenly spaced shares miss each border by one at most.
            assert!((found - exp / exps.iter().sum::<f64>()).abs() < 2e-4, "{token}: {found}");
        }
    }

    #[test]
    fn the_end_of_the_last_share_is_still_the_last_token() {
        assert_eq!(draw(&[(7, 0.1), (5, 0.2)], 1.0), 5);
    }
}
