use std::{error::Error, io, path::PathBuf};

use crate::{files::FileError, record::RecordError};

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file of the report cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The round records cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The summary cannot be read.
    #[error("cannot read {path}; is this the directory of a finished run?")]
    Read {
        /// The summary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The summary is not one.
    #[error("{path} is not the summary of a run, or one of another version")]
    Summary {
        /// The summary.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Results that JSON cannot hold.
    #[error("the results cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    /// A plot that cannot be drawn.
    #[error("cannot draw the plot {name}")]
    Plot {
        /// Name of the plot.
        name: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}
