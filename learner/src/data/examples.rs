//! What a configuration names, read as a model reads it, and from there to its inputs.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use fedlora_adapter::Seed;

use super::{
    DataConfig, DataError, Dataset, LoadedImages, LoadedPassages, LoadedText, columns::Answer, images::has_images,
    layout,
};
use crate::{LearnerError, Preprocessor, TextTokenizer};

const IMAGES: &str = "images";
const TEXTS: &str = "texts";

/// Examples for training and testing, as read. Which of the three they are is the model's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadedData {
    /// Texts with labels.
    Text(LoadedText),
    /// Prompts with responses, or running text.
    Passages(LoadedPassages),
    /// Images with labels.
    Images(LoadedImages),
}

/// Which of them a model reads.
enum Reads<'a> {
    Text,
    Passages(&'a TextTokenizer),
    Images,
}

impl<'a> Reads<'a> {
    /// Checks that the data can be what the model reads.
    fn of(config: &DataConfig, preprocessor: &'a Preprocessor) -> Result<Self, LearnerError> {
        match (preprocessor, has_images(config)) {
            (Preprocessor::Text(_), false) => Ok(Self::Text),
            (Preprocessor::Passages { tokenizer, .. }, false) => {
                preprocessor.check_length(config.max_length)?;
                Ok(Self::Passages(tokenizer))
            }
            (Preprocessor::Images(_), true) => Ok(Self::Images),
            (Preprocessor::Text(_) | Preprocessor::Passages { .. }, true) => {
                Err(LearnerError::OtherData { reads: TEXTS, found: IMAGES })
            }
            (Preprocessor::Images(_), false) => {
                // A path that shows no texts either has an error of its own.
                layout::format(&config.path, config, Answer::Label)?;
                Err(LearnerError::OtherData { reads: IMAGES, found: TEXTS })
            }
        }
    }
}

impl LoadedData {
    /// Reads what `config` names, for the model of a preprocessor.
    ///
    /// # Errors
    /// [`LearnerError::OtherData`] for images where the model reads texts, or the other way round;
    /// [`LearnerError::TooLong`] for more tokens than a decoder has positions; as [`LoadedText::load`],
    /// [`LoadedPassages::load`] and [`LoadedImages::load`].
    pub fn load(config: &DataConfig, preprocessor: &Preprocessor, seed: Seed) -> Result<Self, LearnerError> {
        match Reads::of(config, preprocessor)? {
            Reads::Text => Ok(Self::Text(LoadedText::load(config, seed)?)),
            Reads::Passages(tokenizer) => LoadedPassages::load(config, tokenizer, seed).map(Self::Passages),
            Reads::Images => Ok(Self::Images(LoadedImages::load(config, seed)?)),
        }
    }

    /// As [`Self::load`] for one site of a federation, whose labels decide the numbers; they mean nothing to a causal
    /// language model.
    ///
    /// # Errors
    /// As [`Self::load`]; a label that the federation does not have.
    pub fn load_site(
        config: &DataConfig,
        preprocessor: &Preprocessor,
        seed: Seed,
        labels: &[String],
    ) -> Result<Self, LearnerError> {
        match Reads::of(config, preprocessor)? {
            Reads::Text => Ok(Self::Text(LoadedText::load_site(config, seed, labels)?)),
            Reads::Passages(tokenizer) => LoadedPassages::load_site(config, tokenizer, seed).map(Self::Passages),
            Reads::Images => Ok(Self::Images(LoadedImages::load_site(config, seed, labels)?)),
        }
    }

    /// The labels of a configuration's rows, in the order of their numbers; none for a causal language model.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn labels_of(config: &DataConfig, preprocessor: &Preprocessor) -> Result<Vec<String>, LearnerError> {
        match Reads::of(config, preprocessor)? {
            Reads::Text => Ok(LoadedText::labels_of(config)?),
            Reads::Passages(_) => Ok(Vec::new()),
            Reads::Images => Ok(LoadedImages::labels_of(config)?),
        }
    }

    /// Number of rows to train on.
    #[must_use]
    pub fn train_rows(&self) -> usize {
        match self {
            Self::Text(text) => text.train().len(),
            Self::Passages(passages) => passages.train().len(),
            Self::Images(images) => images.train().len(),
        }
    }

    /// The number of every training row's label; none at all for a causal language model.
    ///
    /// # Errors
    /// None: every row's label is among the label names.
    pub fn train_labels(&self) -> Result<Vec<u32>, DataError> {
        match self {
            Self::Text(text) => text.train_labels(),
            Self::Passages(_) => Ok(Vec::new()),
            Self::Images(images) => images.train_labels(),
        }
    }

    /// Where the training data are several files: each file's rows.
    #[must_use]
    pub fn clients(&self) -> Option<&[Vec<u32>]> {
        match self {
            Self::Text(text) => text.clients(),
            Self::Passages(passages) => passages.clients(),
            Self::Images(images) => images.clients(),
        }
    }

    /// The files that the rows come from.
    #[must_use]
    pub fn files(&self) -> BTreeSet<Arc<Path>> {
        match self {
            Self::Text(text) => text.files(),
            Self::Passages(passages) => passages.files(),
            Self::Images(images) => images.files(),
        }
    }

    /// Rows that are left out because their prompts leave no room for a response.
    #[must_use]
    pub fn left_out(&self) -> usize {
        match self {
            Self::Passages(passages) => passages.left_out(),
            Self::Text(_) | Self::Images(_) => 0,
        }
    }

    /// The training and the test dataset as a model reads them; labelled texts are cut to `max_length` tokens, as
    /// passages are already.
    ///
    /// # Errors
    /// [`LearnerError::OtherData`] for a model that reads the other kind; as [`LoadedText::tokenize`],
    /// [`LoadedPassages::datasets`] and [`LoadedImages::pixels`].
    pub fn datasets(&self, preprocessor: &Preprocessor, max_length: usize) -> Result<(Dataset, Dataset), LearnerError> {
        match (self, preprocessor) {
            (Self::Text(text), Preprocessor::Text(tokenizer)) => text.tokenize(tokenizer, max_length),
            (Self::Passages(passages), Preprocessor::Passages { .. }) => Ok(passages.datasets()?),
            (Self::Images(images), Preprocessor::Images(processor)) => images.pixels(processor),
            _ => Err(LearnerError::OtherData { reads: preprocessor.reads(), found: self.kind() }),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "texts with labels",
            Self::Passages(_) => "texts without labels",
            Self::Images(_) => IMAGES,
        }
    }
}
