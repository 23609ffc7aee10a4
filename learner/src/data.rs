//! From files to examples: readers, label and client columns, splits, and the in-memory [`Dataset`].
//!
//! [`LoadedData::load`] reads what a [`DataConfig`] names as a model needs it: rows of text with labels ([`LoadedText`]), of
//! prompts and responses or running text ([`LoadedPassages`]), or of images with labels ([`LoadedImages`]), and, where the
//! data has them, natural clients and users. [`LoadedData::datasets`] turns those rows into what the model reads. A row
//! that cannot be understood is an error with its file and line; rows are never repaired, and left out only where a
//! response has no room, which is counted.

mod chat;
mod clinc;
mod columns;
mod config;
mod dataset;
mod delimited;
mod error;
mod examples;
mod files;
mod groups;
mod images;
mod jsonl;
mod labels;
mod layout;
mod lines;
mod loaded;
mod passage;
mod personal;
mod pixels;
mod record;
mod row;
mod running;
mod split;

pub(crate) use chat::ChatTemplate;
pub use columns::Column;
pub use config::{DataConfig, Format};
pub use dataset::Dataset;
pub use error::{DataError, RowProblem};
pub use examples::LoadedData;
pub use groups::Groups;
pub use images::LabelledImage;
pub use loaded::{Loaded, LoadedImages, LoadedPassages, LoadedText};
pub use passage::{Passage, Question, Sequence};
pub use personal::split_personal;
pub use record::Record;
pub use row::{Origin, Row};
pub use split::{Holdout, hold_out, hold_out_by_group, thin};
