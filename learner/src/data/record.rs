//! One row of text, as read.

use super::Origin;

/// A text with its label, or what a language model is to write, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The text, without surrounding white space unless it runs through a file; never empty.
    pub text: String,
    /// The second text of a sentence-pair task.
    pub pair: Option<String>,
    /// The label's name, never empty. For language models the response; empty for running text, which has none.
    pub label: String,
    /// Where it stands, and whose it is.
    pub origin: Origin,
}
