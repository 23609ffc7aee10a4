//! What stands between files and a model: a tokenizer for those that read texts, an image processor for the others.

use crate::{ImageProcessor, LearnerError, TextTokenizer};

/// Makes rows of data into what a model reads, and so says what that is.
#[derive(Debug, Clone)]
pub enum Preprocessor {
    /// The model reads tokens of texts that have labels.
    Text(Box<TextTokenizer>),
    /// The model reads tokens and predicts the next ones: prompts with responses, or running text.
    Passages {
        /// The tokens are its.
        tokenizer: Box<TextTokenizer>,
        /// Tokens of the longest sequence that the model was made for.
        longest: usize,
    },
    /// The model reads pixels of pictures that have labels.
    Images(ImageProcessor),
}

impl Preprocessor {
    /// The tokenizer; none for a model that reads images.
    #[must_use]
    pub fn into_text(self) -> Option<TextTokenizer> {
        match self {
            Self::Text(tokenizer) | Self::Passages { tokenizer, .. } => Some(*tokenizer),
            Self::Images(_) => None,
        }
    }

    /// Checks that sequences of this many tokens are within the positions that a decoder knows. An encoder's texts are
    /// cut.
    ///
    /// # Errors
    /// [`LearnerError::TooLong`] where they are not.
    pub fn check_length(&self, max_length: usize) -> Result<(), LearnerError> {
        match self {
            &Self::Passages { longest, .. } if max_length > longest => {
                Err(LearnerError::TooLong { max_length, longest })
            }
            _ => Ok(()),
        }
    }

    /// What the model reads, in words.
    pub(crate) fn reads(&self) -> &'static str {
        match self {
            Self::Text(_) => "texts with labels",
            Self::Passages { .. } => "texts without labels",
            Self::Images(_) => "images",
        }
    }
}
