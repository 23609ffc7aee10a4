//! Which column holds what.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{DataConfig, DataError};

/// What stands beside a row's text: the label of a classifier's row, or the response of a language model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Label,
    Response,
}

impl Answer {
    /// Names tried, in this order, when no text column is configured.
    pub(super) fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Label => &["text", "sentence", "sentence1", "utterance", "query"],
            Self::Response => &["prompt", "question", "instruction", "input", "text", "sentence", "utterance", "query"],
        }
    }

    /// Names tried, in this order, when no column of the answer is configured.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Label => &["label", "category", "intent", "class"],
            Self::Response => &["response", "answer", "completion", "output"],
        }
    }

    /// The configured column.
    pub(super) fn column(self, config: &DataConfig) -> Option<&Column> {
        match self {
            Self::Label => config.label_column.as_ref(),
            Self::Response => config.response_column.as_ref(),
        }
    }

    /// Whose rows have it.
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::Label => "a classifier",
            Self::Response => "a causal language model",
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Response => "response",
        }
    }
}

/// A column by its name in the header, or by its number from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// Number from 0; the only way in files without a header.
    Index(usize),
    /// Name in the header, or key in JSON lines.
    Name(String),
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The columns of one file by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) text: usize,
    pub(super) pair: Option<usize>,
    pub(super) label: usize,
    pub(super) group: Option<usize>,
    pub(super) user: Option<usize>,
}

impl Columns {
    /// Finds the configured, or else the usual, columns in a header.
    pub(super) fn named(
        file: &Path,
        header: &[String],
        config: &DataConfig,
        answer: Answer,
    ) -> Result<Self, DataError> {
        let find = |column: &Column| position(file, header, column);
        Ok(Self {
            text: required(file, header, config.text_column.as_ref(), "text", answer.texts())?,
            pair: config.pair_column.as_ref().map(find).transpose()?,
            label: required(file, header, answer.column(config), answer.role(), answer.names())?,
            group: config.group_column.as_ref().map(find).transpose()?,
            user: config.user_column.as_ref().map(find).transpose()?,
        })
    }

    /// Columns of a file without a header: by number, or text first and answer last.
    pub(super) fn numbered(file: &Path, width: usize, config: &DataConfig, answer: Answer) -> Result<Self, DataError> {
        let header: Vec<String> = (0..width).map(|index| index.to_string()).collect();
        let find = |column: &Column| position(file, &header, column);
        let or = |column: Option<&Column>, usual: usize| column.map_or(Ok(usual), find);
        Ok(Self {
            text: or(config.text_column.as_ref(), 0)?,
            pair: config.pair_column.as_ref().map(find).transpose()?,
            label: or(answer.column(config), width.saturating_sub(1))?,
            group: config.group_column.as_ref().map(find).transpose()?,
            user: config.user_column.as_ref().map(find).transpose()?,
        })
    }
}

fn position(file: &Path, header: &[String], column: &Column) -> Result<usize, DataError> {
    let found = match column {
        Column::Index(index) => Some(*index).filter(|index| *index < header.len()),
        Column::Name(name) => header.iter().position(|found| found == name),
    };
    found.ok_or_else(|| DataError::MissingColumn {
        file: file.into(),
        column: column.to_string(),
        found: header.to_vec(),
    })
}

fn required(
    file: &Path,
    header: &[String],
    configured: Option<&Column>,
    role: &'static str,
    usual: &'static [&'static str],
) -> Result<usize, DataError> {
    if let Some(column) = configured {
        return position(file, header, column);
    }
    usual
        .iter()
        .find_map(|name| header.iter().position(|found| found == name))
        .ok_or_else(|| DataError::UnknownColumn { file: file.into(), role, tried: usual, found: header.to_vec() })
}
