//! Which data EVA's first factors come from.

use std::{path::PathBuf, sync::Arc};

use fedlora_adapter::{AdapterSpec, FirstValues, Seed};
use serde::{Deserialize, Serialize};

use super::input_directions;
use crate::{DataConfig, DataError, Dataset, LearnerError, LoadedData, Model, Preprocessor};

/// `[lora.eva_config]`: public rows, and how many of them.
///
/// Of PEFT's `EvaConfig` there is no `rho`, as if it were 1: every module keeps its rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaConfig {
    /// The rows, in the words of `[data]`. What is taken from them is sent to everybody: they must be public.
    pub data: DataConfig,
    /// Rows to take, the first ones; fewer where there are fewer.
    #[serde(default = "default_examples")]
    pub examples: usize,
}

fn default_examples() -> usize {
    256
}

impl EvaConfig {
    /// The rows as a model reads them.
    ///
    /// # Errors
    /// Rows that cannot be read, or are of another kind than the model reads.
    pub fn load(&self, preprocessor: &Preprocessor, seed: Seed) -> Result<PublicRows, EvaError> {
        // Nobody tests on them, and what their labels are does not matter.
        let labels = LoadedData::labels_of(&self.data, preprocessor)?;
        let loaded = LoadedData::load_site(&self.data, preprocessor, seed, &labels)?;
        let (dataset, _) = loaded.datasets(preprocessor, self.data.max_length)?;
        Ok(PublicRows { dataset: Arc::new(dataset), examples: self.examples })
    }

    /// Whether some of the rows may be those of other data: whether one names a file of the other, or its folder.
    #[must_use]
    pub fn may_share_rows_with(&self, other: &DataConfig) -> bool {
        let other = places(other);
        places(&self.data).iter().any(|own| other.iter().any(|other| own.starts_with(other) || other.starts_with(own)))
    }
}

/// Rows that first factors are made from.
#[derive(Debug, Clone)]
pub struct PublicRows {
    /// All of them.
    pub dataset: Arc<Dataset>,
    /// How many of them count, the first ones.
    pub examples: usize,
}

impl PublicRows {
    /// [`input_directions`] of the rows.
    ///
    /// # Errors
    /// As [`input_directions`].
    pub fn directions(&self, model: &dyn Model, spec: &AdapterSpec) -> Result<FirstValues, LearnerError> {
        let rows: Vec<u32> = (0..self.dataset.len().min(self.examples) as u32).collect();
        input_directions(model, &self.dataset, &rows, spec)
    }
}

/// Why there are no directions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaError {
    /// The rows.
    #[error("lora.eva_config.data")]
    Data(#[from] DataError),
    /// The model, or what it makes of the rows.
    #[error(transparent)]
    Learner(#[from] LearnerError),
}

/// Where the rows are, whatever it is called.
fn places(data: &DataConfig) -> Vec<PathBuf> {
    let base = || if data.path.is_dir() { Some(data.path.as_path()) } else { data.path.parent() };
    let test = data.test_path.iter().map(|path| base().map_or_else(|| path.clone(), |base| base.join(path)));
    let all = std::iter::once(data.path.clone()).chain(test);
    // What is not there is found when it is read.
    all.map(|path| path.canonicalize().unwrap_or(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn rows_are_shared_where_one_place_is_the_other_or_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            path
        };
        let (own, public) = (file("own.csv"), file("public.csv"));
        let eva = EvaConfig { data: DataConfig::new(&public), examples: 8 };
        let shares = |other: DataConfig| eva.may_share_rows_with(&other);
        assert!(!shares(DataConfig::new(&own)));
        assert!(shares(DataConfig::new(folder.path().join(".").join("public.csv"))), "another name");
        assert!(shares(DataConfig::new(folder.path())), "the folder that it is in");
        assert!(shares(DataConfig { test_path: Some("public.csv".into()), ..DataConfig::new(&own) }));
    }
}
