//! From files to examples: readers, label and client columns, splits, and the in-memory [`Dataset`].
//!
//! [`LoadedData::load`] reads what a [`DataConfig`] names: rows of text ([`LoadedText`]) or images ([`LoadedImages`])
//! with their labels and, where the data has them, natural clients. [`LoadedData::datasets`] turns those rows into what
//! a model reads. A row that cannot be understood is an error with its file and line; rows are never skipped or
//! repaired.

mod clinc;
mod columns;
mod config;
mod dataset;
mod delimited;
mod error;
mod examples;
mod files;
mod images;
mod jsonl;
mod labels;
mod layout;
mod lines;
mod loaded;
mod personal;
mod pixels;
mod record;
mod split;

pub use columns::Column;
pub use config::{DataConfig, Format};
pub use dataset::{Dataset, Groups};
pub use error::{DataError, RowProblem};
pub use examples::LoadedData;
pub use images::{LabelledImage, LoadedImages};
pub use loaded::LoadedText;
pub use personal::split_personal;
pub use record::Record;
pub use split::{Holdout, hold_out, hold_out_by_group, thin};
