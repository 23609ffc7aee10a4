//! Labelled pictures: readers, and from them to a model's pixels.

mod digits;
mod files;
mod folder;
mod idx;
mod npz;
mod picture;
mod source;

use std::path::{Path, PathBuf};

use super::DataError;

pub use picture::LabelledImage;
pub(super) use source::{Sources, has_images, source_name};

/// An error about what a file holds.
fn content(file: &Path, expected: impl Into<String>, found: impl Into<String>) -> DataError {
    DataError::Content { file: PathBuf::from(file), expected: expected.into(), found: found.into() }
}

/// Checks that there is one of `what` for each of `images` pictures.
fn one_each(file: &Path, what: &str, images: usize, found: usize) -> Result<(), DataError> {
    if images == found {
        return Ok(());
    }
    Err(content(file, format!("{images} {what}, one for each image"), found.to_string()))
}
