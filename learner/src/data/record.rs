//! One labelled text, as read.

use std::path::Path;
use std::sync::Arc;

/// A labelled text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The text, without surrounding white space; never empty.
    pub text: String,
    /// The second text of a sentence-pair task.
    pub pair: Option<String>,
    /// The label's name; never empty.
    pub label: String,
    /// The natural client: a column's value, a domain or a source.
    pub group: Option<String>,
    /// The user whom the row is about, where the configuration names a column.
    pub user: Option<String>,
    /// The file it was read from.
    pub file: Arc<Path>,
    /// The line it starts on, from 1; in CLINC150's JSON the entry's number in its list.
    pub line: usize,
}
