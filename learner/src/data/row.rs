//! What reading, splitting and numbering ask of a row, whatever it holds.

use std::{path::Path, sync::Arc};

use super::{LabelledImage, Passage, Record};

/// Where a row comes from, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The natural client: a column's value, a domain, a speaker or a source.
    pub group: Option<String>,
    /// The user whom the row is about, where the configuration names a column.
    pub user: Option<String>,
    /// The file it was read from.
    pub file: Arc<Path>,
    /// The line it starts on, or its number among the file's entries, from 1.
    pub line: usize,
}

impl Origin {
    /// A place in a file, nobody's as yet.
    pub(super) fn at(file: &Arc<Path>, line: usize) -> Self {
        Self { group: None, user: None, file: Arc::clone(file), line }
    }
}

/// A row of data.
pub trait Row: Clone {
    /// Where it comes from.
    fn origin(&self) -> &Origin;
    /// The same, to be told a natural client.
    fn origin_mut(&mut self) -> &mut Origin;
    /// The label that train and test rows are to have alike; empty for rows without labels.
    fn label(&self) -> &str;

    /// The natural client that it belongs to.
    fn group(&self) -> Option<&str> {
        self.origin().group.as_deref()
    }

    /// The user whom it is about.
    fn user(&self) -> Option<&str> {
        self.origin().user.as_deref()
    }
}

impl Row for Record {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn origin_mut(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn label(&self) -> &str {
        &self.label
    }
}

impl Row for Passage {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn origin_mut(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn label(&self) -> &'static str {
        ""
    }
}

impl Row for LabelledImage {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn origin_mut(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn label(&self) -> &str {
        &self.label
    }
}
