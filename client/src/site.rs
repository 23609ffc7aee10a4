//! One institution's own model and data, and training on them.

mod fingerprint;
mod share;
mod trainer;

use std::sync::Arc;

use fedlora_adapter::{AdapterError, AdapterSpec, ClientId, Digest, FirstValues, Seed};
use fedlora_learner::{
    BaseModel, DataConfig, DataError, Device, EvaConfig, EvaError, LearnerError, LoadedData, Model, ModelConfig,
    Preprocessor, TextTokenizer,
};

use crate::{budget::BudgetError, files::FileError};

pub use fingerprint::Changed;
pub(crate) use fingerprint::Fingerprint;
pub use share::{Share, SharedRows};
pub use trainer::SiteTrainer;

/// What a site brings along.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteConfig {
    /// The base model.
    pub model: ModelConfig,
    /// Its rows.
    pub data: DataConfig,
    /// Share of its training rows, per label, held out to test its own model on: from 0 to below 1.
    pub personal_test_fraction: f64,
}

/// A site with its model in memory.
#[derive(Debug)]
pub struct Site {
    config: SiteConfig,
    model: Arc<dyn Model>,
    preprocessor: Preprocessor,
    base: BaseModel,
    digest: Digest,
}

/// Why a site cannot train.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// The model, or training on it.
    #[error(transparent)]
    Learner(#[from] LearnerError),
    /// The rows.
    #[error("data")]
    Data(#[from] DataError),
    /// The adapter.
    #[error("adapter")]
    Adapter(#[from] AdapterError),
    /// The public rows of an adapter's first values.
    #[error(transparent)]
    Eva(#[from] EvaError),
    /// The rows are not those that the run began with.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// What the run has seen of the data cannot be written down.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The site's own privacy budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Training outside of a round.
    #[error("no round is under way, so the labels are not known")]
    NoRound,
    /// A trainer that lost a result.
    #[error("training returned no result")]
    NoResult,
}

impl Site {
    /// Loads the model. The seed counts only where its weights are random.
    ///
    /// # Errors
    /// A model that cannot be loaded.
    pub fn load(config: SiteConfig, seed: Seed, device: &Device) -> Result<Self, SiteError> {
        let base = config.model.locate()?;
        let digest = base.digest()?;
        let (model, preprocessor) = base.load(seed, device)?;
        Ok(Self { config, model, preprocessor, base, digest })
    }

    /// The base model.
    #[must_use]
    pub fn model(&self) -> &Arc<dyn Model> {
        &self.model
    }

    /// Tokens of a row at most.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.config.data.max_length
    }

    /// Where the base model's files are.
    #[must_use]
    pub fn base(&self) -> &BaseModel {
        &self.base
    }

    /// The tokenizer of a language model; none for a model that writes no text.
    #[must_use]
    pub fn tokenizer(&self) -> Option<&TextTokenizer> {
        match &self.preprocessor {
            Preprocessor::Passages { tokenizer, .. } => Some(tokenizer),
            Preprocessor::Text(_) | Preprocessor::Images(_) => None,
        }
    }

    /// Identity of the base model's files.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The labels that the site's own data have, in the order of a federation's; none for a language model.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn own_labels(&self) -> Result<Vec<String>, SiteError> {
        Ok(LoadedData::labels_of(&self.config.data, &self.preprocessor)?)
    }

    /// What the first adapter takes from the frozen weights, and under `eva` from what the model makes of public rows.
    ///
    /// # Errors
    /// Weights that do not fit the specification; public rows that cannot be read or vary too little.
    pub fn first_values(
        &self,
        spec: &AdapterSpec,
        eva: Option<&EvaConfig>,
        seed: Seed,
    ) -> Result<FirstValues, SiteError> {
        let mut first = spec.first_values(&|module| self.model.frozen_weight(module))?;
        if let Some(eva) = eva {
            let rows = eva.load(&self.preprocessor, seed)?;
            first.extend(rows.directions(&*self.model, spec)?);
        }
        Ok(first)
    }

    /// Rows that this site trains on, whatever the seed.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn examples(&self) -> Result<u64, SiteError> {
        let labels = self.own_labels()?;
        Ok(SharedRows::read(&self.config, &self.preprocessor, Seed(0), ClientId(0), &labels)?.rows.len() as u64)
    }

    /// The site's share of a federation's rows, as the model reads them. Labels mean nothing to a language model.
    ///
    /// # Errors
    /// Rows that cannot be read or whose labels the federation does not have; texts for a model of images, or the
    /// other way round.
    pub fn share(&self, seed: Seed, client: ClientId, labels: &[String]) -> Result<Share, SiteError> {
        let rows = SharedRows::read(&self.config, &self.preprocessor, seed, client, labels)?;
        rows.prepare(&self.preprocessor, self.config.data.max_length)
    }
}
