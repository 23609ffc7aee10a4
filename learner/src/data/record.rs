//! One row of text, as read.

use std::path::Path;
use std::sync::Arc;

/// A text with its label, or what a language model is to write, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The text, without surrounding white space unless it runs through a file; never empty.
    pub text: String,
    /// The second text of a sentence-pair task.
    pub pair: Option<String>,
    /// The label's name, never empty. For language models the response; empty for running text, which has none.
    pub label: String,
    /// The natural client: a column's value, a domain, a speaker or a source.
    pub group: Option<String>,
    /// The user whom the row is about, where the configuration names a column.
    pub user: Option<String>,
    /// The file it was read from.
    pub file: Arc<Path>,
    /// The line it starts on, from 1; in CLINC150's JSON the entry's number in its list.
    pub line: usize,
}
