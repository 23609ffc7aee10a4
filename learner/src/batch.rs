//! What a model is given at a time: examples without padding, and what it is to predict for them.

/// The tokens of one example.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// For each token the text of a pair that it belongs to: 0 or 1.
    pub segments: Vec<u8>,
}

impl From<Vec<u32>> for Tokens {
    /// Tokens of a single text.
    fn from(ids: Vec<u32>) -> Self {
        Self { segments: vec![0; ids.len()], ids }
    }
}

/// The examples of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// Token sequences, one after the other.
    Tokens {
        /// Tokens of all sequences, without padding.
        tokens: Tokens,
        /// Tokens of each sequence, each at least 1; their sum is the number of tokens.
        lengths: Vec<usize>,
    },
    /// Images of the size that the model expects.
    Images {
        /// `[count, channels, height, width]`, row-major, in the range that the model was pretrained on.
        pixels: Vec<f32>,
        /// Number of images.
        count: usize,
    },
}

/// What a model is to predict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// One label for each example, below the number of labels of the head.
    Labels(Vec<u32>),
    /// Next tokens of token sequences.
    Tokens(NextTokens),
}

/// Which rows of a batch of token sequences predict, and the tokens that follow them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NextTokens {
    /// Rows of the batch, ascending; the last row of a sequence predicts nothing, since no token follows it.
    pub rows: Vec<u32>,
    /// The token behind each of the rows.
    pub ids: Vec<u32>,
    /// Number of rows that predict in each example, each at least 1.
    pub counts: Vec<usize>,
}

impl Targets {
    /// What is right, one for each row of logits.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        match self {
            Self::Labels(ids) | Self::Tokens(NextTokens { ids, .. }) => ids,
        }
    }

    /// Number of examples.
    #[must_use]
    pub fn examples(&self) -> usize {
        match self {
            Self::Labels(labels) => labels.len(),
            Self::Tokens(next) => next.counts.len(),
        }
    }

    /// Number of predictions in each of consecutive groups of examples, of which `examples` are the sizes.
    pub(crate) fn predictions(&self, examples: &[usize]) -> Vec<usize> {
        let Self::Tokens(next) = self else { return examples.to_vec() };
        let mut counts = next.counts.iter();
        examples.iter().map(|&size| counts.by_ref().take(size).sum()).collect()
    }
}

/// Examples and targets. In a pass for several groups, the examples of group 0 come first, then those of group 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The examples.
    pub inputs: Inputs,
    /// What is to be predicted for them.
    pub targets: Targets,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_counted_by_groups_of_examples() {
        let counts = vec![2, 1, 4];
        let next = NextTokens { rows: (0..7).collect(), ids: vec![9; 7], counts };
        let tokens = Targets::Tokens(next);
        assert_eq!((tokens.examples(), tokens.predictions(&[2, 1])), (3, vec![3, 4]));
        let labels = Targets::Labels(vec![0, 1, 0]);
        assert_eq!((labels.examples(), labels.predictions(&[1, 2])), (3, vec![1, 2]));
    }
}
