//! How a configuration names a partition.

use serde::{Deserialize, Serialize};

use super::PartitionError;

/// Ways to divide rows among clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionKind {
    /// Equal shares at random.
    #[default]
    Iid,
    /// For each label, shares drawn from a Dirichlet distribution with parameter `alpha` (Hsu et al. 2019, "Measuring
    /// the Effects of Non-Identical Data Distribution for Federated Visual Classification", arXiv 1909.06335, in the
    /// common form that divides each label among clients): the smaller `alpha`, the fewer labels a client sees.
    Dirichlet,
    /// One client for each value of the data's group column, domain or source.
    Column,
    /// Equal random shares within each group: `num-clients` is a multiple of the number of groups.
    ColumnShards,
    /// One client for each training file.
    Files,
}

/// Who holds which rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PartitionConfig {
    /// How rows are divided.
    pub kind: PartitionKind,
    /// Number of clients; 10 if not given, or as many as the data has groups or files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_clients: Option<usize>,
    /// Parameter of the Dirichlet distribution, above 0.
    pub alpha: f64,
    /// Rows that every client must hold; a Dirichlet draw that leaves one with fewer is repeated.
    pub min_partition_size: usize,
    /// Rows that a client keeps, at random, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_partition_size: Option<usize>,
    /// Share of each client's own rows, per label, held out to test its model on: from 0 to below 1.
    pub personal_test_fraction: f64,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self {
            kind: PartitionKind::default(),
            num_clients: None,
            alpha: 0.5,
            min_partition_size: 10,
            max_partition_size: None,
            personal_test_fraction: 0.0,
        }
    }
}

impl PartitionConfig {
    /// Number of clients where the data do not say it.
    pub(super) fn clients(&self) -> usize {
        self.num_clients.unwrap_or(10)
    }

    pub(super) fn check(&self) -> Result<(), PartitionError> {
        for (key, limit) in [("num-clients", self.num_clients), ("max-partition-size", self.max_partition_size)] {
            if limit == Some(0) {
                return Err(PartitionError::Zero { key });
            }
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(PartitionError::Alpha { found: self.alpha });
        }
        if !(0.0..1.0).contains(&self.personal_test_fraction) {
            return Err(PartitionError::Fraction { found: self.personal_test_fraction });
        }
        Ok(())
    }
}
