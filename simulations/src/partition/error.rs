//! Why rows cannot be divided as asked.

use fedlora_adapter::ClientId;
use thiserror::Error;

/// A partition that does not fit its data.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum PartitionError {
    /// A number of zero.
    #[error("`{key}` is 0, expected at least 1")]
    Zero {
        /// The configuration key.
        key: &'static str,
    },
    /// A Dirichlet parameter out of range.
    #[error("`alpha` is {found}, expected a finite number above 0")]
    Alpha {
        /// Its value.
        found: f64,
    },
    /// A share out of range.
    #[error("`personal-test-fraction` is {found}, expected a number from 0 to below 1")]
    Fraction {
        /// Its value.
        found: f64,
    },
    /// Rows have no labels.
    #[error(
        "a Dirichlet partition divides rows by their labels, and those of a language model have none: set another partition \
         `kind`, as `column` or `iid`"
    )]
    NoLabels,
    /// Rows have no natural clients.
    #[error("the data have no groups to be clients: set `group-column`, or another partition `kind`")]
    NoGroups,
    /// Rows come from one file.
    #[error("the training data are one file, not one file per client: set another partition `kind`")]
    NoFiles,
    /// `num-clients` contradicts the data.
    #[error("`num-clients` is {expected}, but the data have {found} {what}: leave it out")]
    ClientCount {
        /// The number configured.
        expected: usize,
        /// `groups` or `files`.
        what: &'static str,
        /// The number there is.
        found: usize,
    },
    /// Groups cannot be cut into equally many clients.
    #[error("`num-clients` is {clients}, expected a multiple of the {groups} groups of the data")]
    NotMultiple {
        /// The number configured.
        clients: usize,
        /// The number of groups.
        groups: usize,
    },
    /// Not enough rows whatever the draw.
    #[error(
        "{rows} rows cannot give {clients} clients {required} rows each: lower `num-clients` or `min-partition-size`"
    )]
    TooFewRows {
        /// All rows.
        rows: usize,
        /// Number of clients.
        clients: usize,
        /// `min-partition-size`.
        required: usize,
    },
    /// No draw gave every client enough rows.
    #[error(
        "in {draws} draws with alpha {alpha} for {clients} clients, the smallest client never held more than {best} \
         rows, expected {required}: raise `alpha`, or lower `num-clients` or `min-partition-size`"
    )]
    UnluckyDraws {
        /// Number of draws.
        draws: usize,
        /// Dirichlet parameter.
        alpha: f64,
        /// Number of clients.
        clients: usize,
        /// The smallest client's rows in the best draw.
        best: usize,
        /// `min-partition-size`.
        required: usize,
    },
    /// A client without enough rows.
    #[error("{client} (`{name}`) holds {rows} rows, expected at least {required}: see `min-partition-size`")]
    SmallClient {
        /// The client.
        client: ClientId,
        /// Its group, or its number.
        name: String,
        /// Its rows.
        rows: usize,
        /// The number required, at least 1.
        required: usize,
    },
}
