//! What a model is given at a time: examples without padding, and their labels.

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

/// Examples with labels. In a pass for several groups, the examples of group 0 come first, then those of group 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The examples.
    pub inputs: Inputs,
    /// One label for each example, below the number of labels of the head.
    pub labels: Vec<u32>,
}
