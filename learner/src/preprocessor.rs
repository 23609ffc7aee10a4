//! What stands between files and a model: a tokenizer for those that read texts, an image processor for the others.

use crate::{ImageProcessor, TextTokenizer};

/// Makes rows of data into what a model reads.
#[derive(Debug, Clone)]
pub enum Preprocessor {
    /// The model reads tokens.
    Text(Box<TextTokenizer>),
    /// The model reads pixels.
    Images(ImageProcessor),
}

impl Preprocessor {
    /// The tokenizer; none for a model that reads images.
    #[must_use]
    pub fn into_text(self) -> Option<TextTokenizer> {
        match self {
            Self::Text(tokenizer) => Some(*tokenizer),
            Self::Images(_) => None,
        }
    }
}
