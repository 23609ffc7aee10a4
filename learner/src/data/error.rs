//! What can be wrong with data, and where.

use std::path::PathBuf;

use fedlora_adapter::ClientId;
use thiserror::Error;

/// A problem with a data file, or with how the configuration describes it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// One row cannot be understood.
    #[error("{}:{line}: {problem}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// The line the row starts on, from 1.
        line: usize,
        /// What is wrong with it.
        problem: RowProblem,
    },
    /// The header lacks a column that the configuration names.
    #[error("{} has no column `{column}`; its columns are {}", file.display(), found.join(", "))]
    MissingColumn {
        /// The file.
        file: PathBuf,
        /// The column looked for.
        column: String,
        /// The columns there are.
        found: Vec<String>,
    },
    /// No column was named and none of the usual ones is there.
    #[error(
        "{} has none of the usual {role} columns ({}); name it with `{role}-column` (its columns are {})",
        file.display(), tried.join(", "), found.join(", ")
    )]
    UnknownColumn {
        /// The file.
        file: PathBuf,
        /// `text`, `label` or `response`.
        role: &'static str,
        /// The names tried.
        tried: &'static [&'static str],
        /// The columns there are.
        found: Vec<String>,
    },
    /// A file that does not hold what its format calls for.
    #[error("{}: expected {expected}, found {found}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An image that is not resized and has another size than the model's.
    #[error(
        "{}: expected an image of {} x {} pixels, as the model reads them without resizing, found {} x {}",
        file.display(), expected.0, expected.1, found.0, found.1
    )]
    ImageSize {
        /// The file.
        file: PathBuf,
        /// Height and width of the model's images.
        expected: (usize, usize),
        /// Height and width found.
        found: (usize, usize),
    },
    /// A file without any row.
    #[error("{} has no rows", file.display())]
    NoRows {
        /// The file.
        file: PathBuf,
    },
    /// The format does not follow from the path.
    #[error("cannot tell the format of {}: {expected}; or set `format`", path.display())]
    UnknownFormat {
        /// The file or folder.
        path: PathBuf,
        /// What would have been recognised.
        expected: &'static str,
    },
    /// A folder lacks a file that its format needs.
    #[error("{} has no {expected}", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file or files looked for.
        expected: &'static str,
    },
    /// There is nothing to test on.
    #[error("{} leaves no test rows: set `test-path`, or `test-fraction` where labels have several rows", path.display())]
    NoTest {
        /// The training data.
        path: PathBuf,
    },
    /// Two ways of getting test rows at once.
    #[error("`test-path` and `test-fraction` exclude each other: keep one")]
    TwoTests,
    /// A fraction outside its range.
    #[error("`{key}` is {found}, expected a number above 0 and below 1")]
    Fraction {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        found: f64,
    },
    /// A limit of zero.
    #[error("`{key}` is 0, expected at least 1")]
    Zero {
        /// The configuration key.
        key: &'static str,
    },
    /// A setting for models of another kind, or for files of another format.
    #[error("`{key}` makes no sense for {model} with such data: leave it out")]
    WrongTask {
        /// The configuration key.
        key: &'static str,
        /// What the model is.
        model: &'static str,
    },
    /// A play in which nobody says enough.
    #[error(
        "no speaker of {} has {min_characters} characters, the longest has {longest}: lower `min-characters`",
        file.display()
    )]
    NoSpeaker {
        /// The file.
        file: PathBuf,
        /// `min-characters`.
        min_characters: usize,
        /// Characters of the longest text.
        longest: usize,
    },
    /// Rows of which none fits.
    #[error("all {rows} training rows of {} have prompts that leave no room for a response: raise `max-length`", path.display())]
    NoRoom {
        /// The training data.
        path: PathBuf,
        /// Rows read.
        rows: usize,
    },
    /// A test row's label does not occur in training.
    #[error("{}:{line}: label `{label}` does not occur in the training rows", file.display())]
    UnseenLabel {
        /// The test file.
        file: PathBuf,
        /// Its row.
        line: usize,
        /// The label.
        label: String,
    },
    /// A label that the federation does not have.
    #[error(
        "{}:{line}: the federation has no label `{label}`; its labels are {}",
        file.display(), known.join(", ")
    )]
    UnknownLabel {
        /// The file.
        file: PathBuf,
        /// Its row.
        line: usize,
        /// The label.
        label: String,
        /// The federation's labels.
        known: Vec<String>,
    },
    /// A client without rows to split.
    #[error("{client} holds no rows to train and test on")]
    EmptyClient {
        /// The client.
        client: ClientId,
    },
    /// A client's share of test rows out of its range.
    #[error("`personal-test-fraction` is {found}, expected a number from 0 to below 1")]
    PersonalFraction {
        /// Its value.
        found: f64,
    },
    /// Only one label, so there is nothing to learn.
    #[error("every training row of {} has the label `{label}`, expected at least two labels", path.display())]
    OneLabel {
        /// The training data.
        path: PathBuf,
        /// The label.
        label: String,
    },
    /// An intent of CLINC150 that no domain lists.
    #[error("{} lists no domain for the intent `{intent}`", file.display())]
    UnknownIntent {
        /// The domains file.
        file: PathBuf,
        /// The intent.
        intent: String,
    },
    /// Parts of a dataset disagree in length.
    #[error("found {found} {what}, expected {expected}")]
    Length {
        /// What was counted.
        what: &'static str,
        /// Number that the labels call for.
        expected: usize,
        /// Number found.
        found: usize,
    },
    /// A label or group number without a name.
    #[error("example {example} has {what} {found}, but only {names} are named")]
    Unnamed {
        /// `label` or `group`.
        what: &'static str,
        /// The example's row.
        example: usize,
        /// Its number.
        found: u32,
        /// Number of names.
        names: usize,
    },
    /// An example without tokens or pixels.
    #[error("example {example} is empty")]
    EmptyExample {
        /// The example's row.
        example: usize,
    },
}

/// What is wrong with one row.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowProblem {
    /// Bytes that are not UTF-8.
    #[error("expected UTF-8 text, found the byte {byte:#04x}")]
    NotUtf8 {
        /// The first byte that does not fit.
        byte: u8,
    },
    /// Too many or too few fields.
    #[error("expected {expected} fields, found {found}")]
    FieldCount {
        /// As in the header or the first row.
        expected: usize,
        /// In this row.
        found: usize,
    },
    /// A quoted field that never ends.
    #[error("expected a closing quote for the field opened on this line, found the end of the file")]
    OpenQuote,
    /// A speech without its speaker.
    #[error("expected the name of a speaker and a colon, found `{found}`")]
    NoSpeaker {
        /// How the line begins.
        found: String,
    },
    /// A line that is not a JSON object, or a file that is not the JSON expected.
    #[error("expected {expected}, found invalid JSON: {reason}")]
    Json {
        /// What should be there.
        expected: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// A key that is not there.
    #[error("expected the key `{key}`, found {}", found.join(", "))]
    MissingKey {
        /// The key.
        key: String,
        /// The keys there are.
        found: Vec<String>,
    },
    /// A value of a wrong kind.
    #[error("expected {expected} in `{column}`, found {found}")]
    Value {
        /// The column or key.
        column: String,
        /// The kinds accepted.
        expected: &'static str,
        /// The kind found.
        found: &'static str,
    },
}
