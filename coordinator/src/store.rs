//! What a coordinator must not forget: tables of small records that change together or not at all.
//!
//! Runs, their events, snapshots, updates, verdicts and checkpoints live here; files of adapters live in
//! [`crate::Blobs`], and records name them by digest. A store knows bytes only, so that another database is another
//! small file; [`Records`] gives them their types.

mod disk;
mod error;
mod memory;
mod records;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

pub use disk::DiskStore;
pub use error::StoreError;
pub use memory::MemoryStore;
pub(crate) use records::Records;
pub(crate) use rows::{CheckpointRecord, LogEntry, Rejection, RoundOutcome, RoundRecord, RunRecord, Snapshot};

/// The tables. Keys are made of big-endian numbers, so that their order is the order of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// What the store says about itself: the version of its layout.
    Meta,
    /// By run.
    Runs,
    /// By number: everything that happened.
    Events,
    /// By run: its last snapshot.
    Snapshots,
    /// By run, round and client: updates that count.
    Updates,
    /// By run, round and client: updates that do not.
    Rejections,
    /// By run and round.
    Rounds,
    /// By run and round: published adapters.
    Checkpoints,
    /// By idempotency key: the run that it started.
    Keys,
    /// By client: those that are invited to no further round.
    Drained,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Meta,
        Self::Runs,
        Self::Events,
        Self::Snapshots,
        Self::Updates,
        Self::Rejections,
        Self::Rounds,
        Self::Checkpoints,
        Self::Keys,
        Self::Drained,
    ];

    /// Its name in a database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Runs => "runs",
            Self::Events => "events",
            Self::Snapshots => "snapshots",
            Self::Updates => "updates",
            Self::Rejections => "rejections",
            Self::Rounds => "rounds",
            Self::Checkpoints => "checkpoints",
            Self::Keys => "keys",
            Self::Drained => "drained",
        }
    }
}

/// One record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// Under which key; replaces what is there.
    pub key: Vec<u8>,
    /// What.
    pub value: Vec<u8>,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Durable tables.
pub trait RoundStore: Debug + Send {
    /// Writes all of the records or none; on success they survive the loss of power.
    ///
    /// # Errors
    /// The medium fails or is full. Whether the records are there is then unknown until they are read, as after a
    /// crash; the store itself stays usable and tries again with the next call.
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError>;

    /// The value under a key.
    ///
    /// # Errors
    /// The medium fails.
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` records with `from <= key < to`, by ascending key, or descending if `youngest_first`.
    ///
    /// # Errors
    /// The medium fails.
    fn scan(
        &mut self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        youngest_first: bool,
    ) -> Result<Vec<Pair>, StoreError>;
}
