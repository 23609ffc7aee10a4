//! How a configuration names its data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Column, DataError, columns::Answer};

/// How files are laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// By the file's extension, or by what the folder holds.
    #[default]
    Auto,
    /// Tab-separated with a header and no quoting, as GLUE's files are; also what `auto` takes `.tsv` for.
    GlueTsv,
    /// Comma-separated with quoting (RFC 4180).
    Csv,
    /// Tab-separated with quoting as in CSV.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    /// The folder of CLINC150: `data_full.json` and, for natural clients, `domains.json`.
    Clinc150,
    /// Text, tab, label, without a header or quoting, as in the UCI sentiment sentences; a folder's files are sources.
    Sentences,
    /// A folder of JSON-lines files, each one client's rows, as FedSVD publishes its splits.
    FedsvdSplit,
    /// For language models: a file, all of it predicted, in windows of `max-length` tokens; what they take `.txt` for.
    Text,
    /// For language models: speeches separated by empty lines, each below a line with its speaker and a colon; speakers
    /// are the natural clients, and the text of each is predicted in windows of `max-length` tokens.
    Plays,
    /// IDX images, packed by gzip or not: a file `PREFIX-images-idx3-ubyte`, or the folder of MNIST's four. Columns are
    /// files beside it, `PREFIX-COLUMN-idx1-ubyte`: labels by default in `labels`, natural clients in `group-column`, users
    /// in `user-column`.
    Idx,
    /// A NumPy archive with MedMNIST's keys: `train_images`, `train_labels`, `test_images`, `test_labels`.
    Npz,
    /// A folder for each label with PNG or JPEG files, or such folders in `train` and `test`; several `train-files`
    /// are several sources, each such a folder.
    ImageFolder,
    /// UCI optdigits (`.tra`, `.tes`): 8 x 8 levels and a digit a line.
    Optdigits,
    /// Semeion: 16 x 16 bits and ten marks a line.
    Semeion,
}

impl Format {
    /// Whether rows are images.
    #[must_use]
    pub fn is_images(self) -> bool {
        matches!(self, Self::Idx | Self::Npz | Self::ImageFolder | Self::Optdigits | Self::Semeion)
    }
}

/// Where labelled texts or images are, and which columns to use.
///
/// Only `path` is required. Test rows come from `test-path`, from a share of the training rows (`test-fraction`), or
/// from the folder's own test file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a file, which have nothing to do with each other")]
pub struct DataConfig {
    /// How the files are laid out.
    #[serde(default)]
    pub format: Format,
    /// A file, or a folder in one of the known layouts.
    pub path: PathBuf,
    /// The files to train on, relative to `path`; several files are several clients. Empty: all of the layout's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub train_files: Vec<PathBuf>,
    /// A file of test rows, relative to the training file's folder; its name gives its format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_path: Option<PathBuf>,
    /// Share of the training rows, per label and group, held out for testing: above 0 and below 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_fraction: Option<f64>,
    /// Whether delimited files start with a header.
    #[serde(default = "default_header")]
    pub header: bool,
    /// The text; by default `text`, `sentence`, `sentence1`, `utterance` or `query`, or the first column. For language
    /// models the prompt; by default also `prompt`, `question`, `instruction` or `input`, which are tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_column: Option<Column>,
    /// The second text of sentence-pair tasks, or what a prompt ends with; by default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair_column: Option<Column>,
    /// The label; by default `label`, `category`, `intent` or `class`, or the last column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<Column>,
    /// For language models what is to follow the prompt; by default `response`, `answer`, `completion` or `output`, or
    /// the last column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_column: Option<Column>,
    /// For language models: whether prompts are predicted too, and not only responses.
    #[serde(default)]
    pub loss_on_prompt: bool,
    /// For language models tuned on conversations: whether prompts are a user's words and responses an assistant's, in the
    /// form of the model directory's chat template.
    #[serde(default)]
    pub chat_template: bool,
    /// For plays: speakers with fewer characters are left out.
    #[serde(default)]
    pub min_characters: usize,
    /// The natural client of a row: a hospital, a user, a site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_column: Option<Column>,
    /// The person whom a row is about, where privacy protects users: all rows of one value are one user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_column: Option<Column>,
    /// Tokens kept of each text, special tokens included. A row whose prompt leaves no token for its response is left
    /// out, and the program says how many there are.
    #[serde(default = "default_max_length")]
    pub max_length: usize,
    /// Train on a random sample of this many rows at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<usize>,
    /// Test on a random sample of this many rows at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_test_rows: Option<usize>,
    /// Whether CLINC150's out-of-scope rows become a label `oos` of a group `oos`.
    #[serde(default)]
    pub include_oos: bool,
}

fn default_header() -> bool {
    true
}

fn default_max_length() -> usize {
    128
}

impl DataConfig {
    /// The defaults for one path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            format: Format::Auto,
            path: path.into(),
            train_files: Vec::new(),
            test_path: None,
            test_fraction: None,
            header: default_header(),
            text_column: None,
            pair_column: None,
            label_column: None,
            response_column: None,
            loss_on_prompt: false,
            chat_template: false,
            min_characters: 0,
            group_column: None,
            user_column: None,
            max_length: default_max_length(),
            max_rows: None,
            max_test_rows: None,
            include_oos: false,
        }
    }

    /// Checks what can be checked before any file is opened.
    pub(super) fn check(&self, answer: Answer) -> Result<(), DataError> {
        self.check_task(answer)?;
        if self.test_path.is_some() && self.test_fraction.is_some() {
            return Err(DataError::TwoTests);
        }
        if let Some(found) = self.test_fraction.filter(|fraction| !(*fraction > 0.0 && *fraction < 1.0)) {
            return Err(DataError::Fraction { key: "test-fraction", found });
        }
        for (key, limit) in
            [("max-length", Some(self.max_length)), ("max-rows", self.max_rows), ("max-test-rows", self.max_test_rows)]
        {
            if limit == Some(0) {
                return Err(DataError::Zero { key });
            }
        }
        Ok(())
    }

    /// Refuses keys that say nothing to a model of the other kind.
    fn check_task(&self, answer: Answer) -> Result<(), DataError> {
        let runs = matches!(self.format, Format::Text | Format::Plays);
        let foreign: &[(&str, bool)] = match answer {
            Answer::Label => &[
                ("response-column", self.response_column.is_some()),
                ("loss-on-prompt", self.loss_on_prompt),
                ("chat-template", self.chat_template),
                ("min-characters", self.min_characters > 0),
                ("format", runs),
            ],
            Answer::Response => &[
                ("label-column", self.label_column.is_some()),
                ("loss-on-prompt", self.loss_on_prompt && runs),
                ("chat-template", self.chat_template && runs),
                ("min-characters", self.min_characters > 0 && self.format != Format::Plays),
            ],
        };
        match foreign.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(DataError::WrongTask { key, model: answer.model() }),
            None => Ok(()),
        }
    }
}
