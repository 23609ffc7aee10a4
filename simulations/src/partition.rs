//! Which rows of the training data each virtual client holds.
//!
//! Every kind gives each row to exactly one client, apart from rows dropped by `max-partition-size`, and depends on
//! nothing but its inputs and the seed.

mod config;
mod dirichlet;
mod error;
mod even;
mod natural;

use fedlora_adapter::{ClientId, Purpose, RoundId, Seed};
use fedlora_learner::data::{Dataset, thin};

pub use config::{PartitionConfig, PartitionKind};
pub use error::PartitionError;

/// Who holds which rows. Iterating yields each client's rows, from `ClientId(0)` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    names: Vec<String>,
    rows: Vec<Vec<u32>>,
}

impl Partition {
    /// Clients without names of their own.
    fn numbered(rows: Vec<Vec<u32>>) -> Self {
        let names = (0..rows.len() as u64).map(|client| ClientId(client).to_string()).collect();
        Self { names, rows }
    }

    /// What each client is called: its group, or its number.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Each client's rows, ascending and never empty.
    #[must_use]
    pub fn rows(&self) -> &[Vec<u32>] {
        &self.rows
    }

    /// How many rows of each label each client holds: `counts[client][label]`.
    #[must_use]
    pub fn label_counts(&self, dataset: &Dataset) -> Vec<Vec<usize>> {
        let count = |rows: &Vec<u32>| {
            let mut counts = vec![0; dataset.label_names().len()];
            for &row in rows {
                counts[dataset.labels()[row as usize] as usize] += 1;
            }
            counts
        };
        self.rows.iter().map(count).collect()
    }
}

impl IntoIterator for Partition {
    type Item = Vec<u32>;
    type IntoIter = std::vec::IntoIter<Vec<u32>>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

/// Divides a dataset's rows among clients; `given` are the rows of each training file, if there are several.
///
/// # Errors
///
/// Where the configuration does not fit the data, or where a client would hold fewer rows than `min-partition-size`.
pub fn partition(
    config: &PartitionConfig,
    dataset: &Dataset,
    given: Option<&[Vec<u32>]>,
    seed: Seed,
) -> Result<Partition, PartitionError> {
    config.check()?;
    let rng = &mut seed.run(Purpose::Partition);
    let mut partition = match config.kind {
        PartitionKind::Iid => {
            Partition::numbered(even::deal((0..dataset.len() as u32).collect(), config.clients(), rng))
        }
        PartitionKind::Dirichlet if dataset.label_names().is_empty() => return Err(PartitionError::NoLabels),
        PartitionKind::Dirichlet => Partition::numbered(dirichlet::draw(config, dataset.labels(), rng)?),
        PartitionKind::Column => natural::by_group(config, dataset)?,
        PartitionKind::ColumnShards => natural::shards(config, dataset, rng)?,
        PartitionKind::Files => natural::by_file(config, given)?,
    };
    for (client, held) in (0..).zip(&mut partition.rows) {
        held.sort_unstable();
        let required = config.min_partition_size.max(1);
        if held.len() < required {
            let name = partition.names.get(client as usize).cloned().unwrap_or_default();
            return Err(PartitionError::SmallClient { client: ClientId(client), name, rows: held.len(), required });
        }
        let rng = &mut seed.client(Purpose::Partition, RoundId(0), ClientId(client));
        *held = thin(std::mem::take(held), config.max_partition_size, rng);
    }
    Ok(partition)
}

#[cfg(test)]
mod tests;
