//! From files to examples: readers, label and client columns, splits, and the in-memory [`Dataset`].
//!
//! [`LoadedText::load`] reads what a [`DataConfig`] names: rows of text with their labels and, where the data has
//! them, natural clients. [`LoadedText::tokenize`] turns those rows into datasets. [`LoadedPassages::load`] does both for
//! causal language models: rows of prompts and responses, or running text. A row that cannot be understood is an error
//! with its file and line; rows are never repaired, and left out only where a response has no room, which is counted.

mod chat;
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
mod passage;
mod personal;
mod record;
mod running;
mod split;

pub use columns::Column;
pub use config::{DataConfig, Format};
pub use dataset::{Dataset, Groups};
pub use error::{DataError, RowProblem};
pub use loaded::{Loaded, LoadedPassages, LoadedText, Row};
pub use passage::{Passage, Sequence};
pub use personal::split_personal;
pub use record::Record;
pub use split::{Holdout, hold_out, hold_out_by_group, thin};
