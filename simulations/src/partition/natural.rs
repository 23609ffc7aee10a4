//! Clients that the data bring along.

use fedlora_learner::data::{Dataset, Groups};
use rand::Rng;

use super::{Partition, PartitionConfig, PartitionError, even};

/// One client for each group that has training rows.
pub(super) fn by_group(config: &PartitionConfig, dataset: &Dataset) -> Result<Partition, PartitionError> {
    let partition = groups(dataset.groups().ok_or(PartitionError::NoGroups)?);
    check_count(config, "groups", partition.rows.len())?;
    Ok(partition)
}

/// Equally many clients in each group, those of the first group first.
pub(super) fn shards(
    config: &PartitionConfig,
    dataset: &Dataset,
    rng: &mut impl Rng,
) -> Result<Partition, PartitionError> {
    let whole = groups(dataset.groups().ok_or(PartitionError::NoGroups)?);
    let (clients, groups) = (config.clients(), whole.rows.len());
    if groups == 0 || !clients.is_multiple_of(groups) {
        return Err(PartitionError::NotMultiple { clients, groups });
    }
    let each = clients / groups;
    let names = whole.names.iter().flat_map(|name| (0..each).map(move |shard| format!("{name}-{shard}"))).collect();
    let rows = whole.rows.into_iter().flat_map(|rows| even::deal(rows, each, rng)).collect();
    Ok(Partition { names, rows })
}

/// One client for each training file.
pub(super) fn by_file(config: &PartitionConfig, files: Option<&[Vec<u32>]>) -> Result<Partition, PartitionError> {
    let files = files.ok_or(PartitionError::NoFiles)?;
    check_count(config, "files", files.len())?;
    Ok(Partition::numbered(files.to_vec()))
}

/// Groups that only test rows have are no clients.
fn groups(groups: &Groups) -> Partition {
    let mut rows = vec![Vec::new(); groups.names().len()];
    for (row, group) in (0..).zip(groups.of_example()) {
        rows[*group as usize].push(row);
    }
    let (names, rows) = groups.names().iter().cloned().zip(rows).filter(|(_, rows)| !rows.is_empty()).unzip();
    Partition { names, rows }
}

fn check_count(config: &PartitionConfig, what: &'static str, found: usize) -> Result<(), PartitionError> {
    match config.num_clients {
        Some(expected) if expected != found => Err(PartitionError::ClientCount { expected, what, found }),
        _ => Ok(()),
    }
}
