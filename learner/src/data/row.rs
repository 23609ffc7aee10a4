//! What reading, splitting and numbering ask of a row, whatever it holds.

use std::{path::Path, sync::Arc};

use super::{LabelledImage, Passage, Record};

/// A row of data.
pub trait Row: Clone {
    /// The natural client that it belongs to.
    fn group(&self) -> Option<&str>;
    /// The user whom it is about.
    fn user(&self) -> Option<&str>;
    /// The label that train and test rows are to have alike; empty for rows without labels.
    fn label(&self) -> &str;
    /// The file that it was read from.
    fn file(&self) -> &Arc<Path>;
    /// Where it stands in the file, from 1.
    fn line(&self) -> usize;
}

impl Row for Record {
    fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn file(&self) -> &Arc<Path> {
        &self.file
    }

    fn line(&self) -> usize {
        self.line
    }
}

impl Row for Passage {
    fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn label(&self) -> &'static str {
        ""
    }

    fn file(&self) -> &Arc<Path> {
        &self.file
    }

    fn line(&self) -> usize {
        self.line
    }
}

impl Row for LabelledImage {
    fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn file(&self) -> &Arc<Path> {
        &self.file
    }

    fn line(&self) -> usize {
        self.row
    }
}
