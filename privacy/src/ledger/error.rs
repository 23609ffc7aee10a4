//! Why a ledger does not open, or says no.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Fingerprint, PrivacyUnit};
use crate::{Origin, PrivacyError};

/// Why nothing may be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The site's limit would be passed.
    #[error(
        "the privacy budget is exhausted: epsilon {spent} of {limit} is spent, this release would make it {asked}; only \
         the site's operator can raise the limit"
    )]
    BudgetExhausted {
        /// The limit on `ε`.
        limit: f64,
        /// `ε` so far.
        spent: f64,
        /// `ε` with the release.
        asked: f64,
    },
    /// `δ` allows to publish somebody's data whole.
    #[error("delta is {delta} for {units} units, expected less than 1/{units}; choose a smaller delta")]
    DeltaTooLarge {
        /// `δ`.
        delta: f64,
        /// `n`.
        units: u64,
    },
    /// The release protects others than the ledger, or counts them differently.
    #[error("the release is about {} units of kind {:?}, the ledger about {} of kind {:?}", found.1, found.0, expected.1, expected.0)]
    OtherUnits {
        /// The ledger's unit and number.
        expected: (PrivacyUnit, u64),
        /// The release's.
        found: (PrivacyUnit, u64),
    },
    /// Simulated randomness for people's data, or the other way round.
    #[error(
        "the ledger is for {expected:?} randomness, the release has {found:?}; use a ledger of its own for simulations"
    )]
    OtherOrigin {
        /// The ledger's.
        expected: Origin,
        /// The release's.
        found: Origin,
    },
    /// The ledger of another data set.
    #[error("{path} is the ledger of data set {found}, expected {expected}; give every data set its own file")]
    OtherData {
        /// The ledger.
        path: PathBuf,
        /// What was asked for.
        expected: Fingerprint,
        /// Whose it is.
        found: Fingerprint,
    },
    /// Another process has it open.
    #[error("{path} is open in another process; only one may train on a data set at a time")]
    Locked {
        /// The ledger.
        path: PathBuf,
    },
    /// There is none.
    #[error("there is no ledger at {path}; make one first")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is a ledger at {path} already; open it")]
    Exists {
        /// The ledger.
        path: PathBuf,
    },
    /// The head is there and the ledger is gone.
    #[error("{path} is gone, and had {lines} lines; bring it back, what it held is spent")]
    Lost {
        /// Where it was.
        path: PathBuf,
        /// How many lines it had.
        lines: u64,
    },
    /// The ledger is there and the head is gone.
    #[error("{path}.head is gone, so that nobody can tell whether {path} is complete; bring it back")]
    HeadMissing {
        /// The ledger.
        path: PathBuf,
    },
    /// The head is not what was written.
    #[error("{path} was changed; bring back what was written there last")]
    HeadAltered {
        /// The head.
        path: PathBuf,
    },
    /// The ledger has lines that the head has not seen, more than a crash can leave.
    #[error("{path} goes on after line {lines}, where {path}.head ends; the head is an older copy")]
    HeadBehind {
        /// The ledger.
        path: PathBuf,
        /// Lines that the head knows.
        lines: u64,
    },
    /// Lines are missing at the end.
    #[error("{path} has {found} whole lines, expected {expected}; it was cut, or is an older copy")]
    Shortened {
        /// The ledger.
        path: PathBuf,
        /// Lines that the head knows.
        expected: u64,
        /// Lines that are there.
        found: u64,
    },
    /// A chain that is right in itself, but not the one that the head ends.
    #[error("{path} holds together up to line {lines}, but is not what {path}.head ends; one of them was replaced")]
    Replaced {
        /// The ledger.
        path: PathBuf,
        /// Lines that were read.
        lines: u64,
    },
    /// A line is not what was written.
    #[error("line {line} of {path} was changed, or a line before it is missing; bring back what was written")]
    Altered {
        /// The ledger.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
    },
    /// A line that holds together, but says nothing that this program knows.
    #[error("line {line} of {path} cannot be read; it may be of a newer version of this program")]
    Unreadable {
        /// The ledger.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// What the reader says.
        #[source]
        source: serde_json::Error,
    },
    /// A line that cannot follow those before it.
    #[error("line {line} of {path} contradicts those before it: {what}")]
    Contradiction {
        /// The ledger.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// The rule that is broken.
        what: &'static str,
    },
    /// A write went wrong, or somebody else wrote.
    #[error("{path} may not be what it was after a failure to write or a write by others; open it again")]
    Broken {
        /// The ledger.
        path: PathBuf,
    },
    /// More steps than paid for.
    #[error("{taken} steps were taken on a reservation of {reserved}")]
    TooManySteps {
        /// Steps that are charged.
        reserved: u64,
        /// Steps that are reported.
        taken: u64,
    },
    /// A reservation of another ledger.
    #[error("the reservation of line {line} is not this ledger's")]
    NotReserved {
        /// Its line.
        line: u64,
    },
    /// A name that fits no line.
    #[error("{what} has {bytes} bytes, expected 1 to {limit} without control characters")]
    Name {
        /// Whose name.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest.
        limit: usize,
    },
    /// A value that cannot be written down.
    #[error("a line cannot be written")]
    Unwritable {
        /// What the writer says.
        #[source]
        source: serde_json::Error,
    },
    /// A file cannot be read, written, locked or made durable.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A value out of its range, or an accountant's refusal.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
}

impl LedgerError {
    /// An I/O error at a path, in the form of `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(super) fn contradiction(path: &Path, line: u64, what: &'static str) -> Self {
        Self::Contradiction { path: path.to_owned(), line, what }
    }
}
