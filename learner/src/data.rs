//! From files to examples: readers, label and client columns, splits, and the in-memory [`Dataset`].
//!
//! [`LoadedText::load`] reads what a [`DataConfig`] names: rows of text with their labels and, where the data has
//! them, natural clients. [`LoadedText::tokenize`] turns those rows into datasets. A row that cannot be understood
//! is an error with its file and line; rows are never skipped or repaired.

mod clinc;
mod columns;
mod config;
mod dataset;
mod delimited;
mod error;
mod jsonl;
mod labels;
mod layout;
mod lines;
mod loaded;
mod personal;
mod record;
mod split;

pub use columns::Column;
pub use config::{DataConfig, Format};
pub use dataset::{Dataset, Groups};
pub use error::{DataError, RowProblem};
pub use loaded::LoadedText;
pub use personal::split_personal;
pub use record::Record;
pub use split::{Holdout, hold_out, hold_out_by_group, thin};
