//! What tokens are before the first layer: the sum of the embeddings of word, place and segment, normalised.

use burn::tensor::Tensor;

use super::family::Segments;
use crate::{
    LearnerError, Tokens,
    model::{
        BertConfig,
        pass::{Pass, select},
        weights::{Loader, Norm, Weights},
    },
};

/// The embedding tables.
#[derive(Debug)]
pub(super) struct Embeddings {
    /// `[vocab_size, hidden_size]`.
    word: Tensor<2>,
    /// `[max_position_embeddings, hidden_size]`.
    position: Tensor<2>,
    /// `[type_vocab_size, hidden_size]`; none in families without segments.
    segment: Option<Tensor<2>>,
    segments: Segments,
    /// The padding token, behind whose id positions begin.
    padding: Option<u32>,
    norm: Norm,
}

impl Embeddings {
    pub(super) fn load<W: Weights>(config: &BertConfig, loader: &mut Loader<'_, W>) -> Result<Self, LearnerError> {
        let (width, segments) = (config.hidden_size, config.family().segments);
        let mut table =
            |name: &str, rows| loader.tensor(&format!("embeddings.{name}_embeddings.weight"), [rows, width]);
        Ok(Self {
            word: table("word", config.vocab_size)?,
            position: table("position", config.max_position_embeddings)?,
            segment: match segments {
                Segments::None => None,
                Segments::OfToken | Segments::First => Some(table("token_type", config.type_vocab_size)?),
            },
            segments,
            padding: config.padding(),
            norm: loader.norm("embeddings.LayerNorm", width, config.layer_norm_eps)?,
        })
    }

    /// Rows for the first layer, `[tokens, hidden_size]`.
    pub(super) fn forward(&self, pass: &Pass<'_>, tokens: &Tokens) -> Tensor<2> {
        let word = select(&self.word, tokens.ids.iter().map(|&id| id.cast_signed()).collect());
        let place = select(&self.position, positions(&tokens.ids, pass.lengths(), self.padding));
        let place = match &self.segment {
            Some(table) => place + select(table, self.rows(tokens)),
            None => place,
        };
        pass.add_norm(word, place, &self.norm)
    }

    /// Each token's row of the segment embedding.
    fn rows(&self, tokens: &Tokens) -> Vec<i32> {
        let row = |segment: &u8| if self.segments == Segments::OfToken { i32::from(*segment) } else { 0 };
        tokens.segments.iter().map(row).collect()
    }
}

/// Each token's row of the position embedding: its place in its sequence; or, with a padding token, that token's id plus
/// the number of tokens so far that are not the padding token, which itself stays at its id.
fn positions(ids: &[u32], lengths: &[usize], padding: Option<u32>) -> Vec<i32> {
    let mut positions = Vec::with_capacity(ids.len());
    let mut rest = ids;
    for &length in lengths {
        let (own, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        let Some(padding) = padding else {
            positions.extend(0..own.len() as i32);
            continue;
        };
        let mut last = padding.cast_signed();
        positions.extend(own.iter().map(|&id| {
            if id == padding {
                return padding.cast_signed();
            }
            last += 1;
            last
        }));
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_begin_at_0_or_behind_the_padding_token_which_has_none() {
        assert_eq!(positions(&[7, 1, 8, 9, 7], &[3, 2], None), [0, 1, 2, 0, 1]);
        assert_eq!(positions(&[7, 1, 8, 9, 7], &[3, 2], Some(1)), [2, 1, 3, 2, 3]);
    }
}
