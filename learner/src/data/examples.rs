//! What a configuration names, texts or images, and from there to what a model reads.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use fedlora_adapter::Seed;

use super::{DataConfig, DataError, Dataset, LoadedImages, LoadedText, images::has_images};
use crate::{LearnerError, Preprocessor};

/// Labelled examples for training and testing, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadedData {
    /// Texts.
    Text(LoadedText),
    /// Images.
    Images(LoadedImages),
}

impl LoadedData {
    /// Reads what `config` names, by its format or by what its path shows.
    ///
    /// # Errors
    /// As [`LoadedText::load`] and [`LoadedImages::load`].
    pub fn load(config: &DataConfig, seed: Seed) -> Result<Self, DataError> {
        if has_images(config) {
            return LoadedImages::load(config, seed).map(Self::Images);
        }
        LoadedText::load(config, seed).map(Self::Text)
    }

    /// As [`Self::load`] for one site of a federation, whose labels decide the numbers.
    ///
    /// # Errors
    /// As [`LoadedText::load_site`] and [`LoadedImages::load_site`].
    pub fn load_site(config: &DataConfig, seed: Seed, labels: &[String]) -> Result<Self, DataError> {
        if has_images(config) {
            return LoadedImages::load_site(config, seed, labels).map(Self::Images);
        }
        LoadedText::load_site(config, seed, labels).map(Self::Text)
    }

    /// The labels of a configuration's rows, in the order of their numbers.
    ///
    /// # Errors
    /// As [`LoadedText::labels_of`] and [`LoadedImages::labels_of`].
    pub fn labels_of(config: &DataConfig) -> Result<Vec<String>, DataError> {
        if has_images(config) { LoadedImages::labels_of(config) } else { LoadedText::labels_of(config) }
    }

    /// The number of every training row's label.
    ///
    /// # Errors
    /// None: every row's label is among the label names.
    pub fn train_labels(&self) -> Result<Vec<u32>, DataError> {
        match self {
            Self::Text(text) => text.train_labels(),
            Self::Images(images) => Ok(images.train_labels()),
        }
    }

    /// Where the training data are several files: each file's rows.
    #[must_use]
    pub fn clients(&self) -> Option<&[Vec<u32>]> {
        match self {
            Self::Text(text) => text.clients(),
            Self::Images(images) => images.clients(),
        }
    }

    /// The files that the rows come from.
    #[must_use]
    pub fn files(&self) -> BTreeSet<Arc<Path>> {
        match self {
            Self::Text(text) => text.train().iter().chain(text.test()).map(|row| Arc::clone(&row.file)).collect(),
            Self::Images(images) => images.files(),
        }
    }

    /// The training and the test dataset as a model reads them; texts are cut to `max_length` tokens.
    ///
    /// # Errors
    /// [`LearnerError::OtherData`] for a model that reads the other kind; as [`LoadedText::tokenize`] and
    /// [`LoadedImages::pixels`].
    pub fn datasets(&self, preprocessor: &Preprocessor, max_length: usize) -> Result<(Dataset, Dataset), LearnerError> {
        match (self, preprocessor) {
            (Self::Text(text), Preprocessor::Text(tokenizer)) => text.tokenize(tokenizer, max_length),
            (Self::Images(images), Preprocessor::Images(processor)) => images.pixels(processor),
            (Self::Text(_), Preprocessor::Images(_)) => {
                Err(LearnerError::OtherData { reads: "images", found: "texts" })
            }
            (Self::Images(_), Preprocessor::Text(_)) => {
                Err(LearnerError::OtherData { reads: "texts", found: "images" })
            }
        }
    }
}
