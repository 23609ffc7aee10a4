//! Which files hold the training and the test rows, and how each is read.

use std::path::{Path, PathBuf};

use super::columns::Answer;
use super::delimited::{self, Dialect};
use super::{DataConfig, DataError, Format, Record, jsonl, running};

const KNOWN_FILES: &str = "expected a file ending in .csv, .tsv, .jsonl, .ndjson, .txt or .json, or images";
const KNOWN_FOLDERS: &str = "expected data_full.json, a file train.csv, train.tsv or train.jsonl, \
                             or a folder of .jsonl or .txt files";

/// Files in a format that has one row a line.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) train: Vec<PathBuf>,
    pub(super) test: Option<PathBuf>,
    format: Format,
    answer: Answer,
}

/// The configured test file: where it is not absolute, beside the training file or inside the training folder.
pub(super) fn test_path(config: &DataConfig) -> Option<PathBuf> {
    let folder = if config.path.is_dir() { Some(config.path.as_path()) } else { config.path.parent() };
    config.test_path.as_ref().map(|file| folder.map_or_else(|| file.clone(), |folder| folder.join(file)))
}

/// The format to read `path` in: the configured one, or the one its name or contents show.
pub(super) fn format(path: &Path, config: &DataConfig, answer: Answer) -> Result<Format, DataError> {
    let found = match config.format {
        Format::Auto if path.is_dir() => folder_format(path, config),
        Format::Auto => file_format(path),
        known => return Ok(known),
    };
    // Text without a header is labelled sentences to a classifier, and just text to a language model.
    found.map(|format| if (format, answer) == (Format::Sentences, Answer::Response) { Format::Text } else { format })
}

impl Layout {
    /// Finds the files; `format` is neither `Auto` nor `Clinc150`.
    pub(super) fn find(format: Format, config: &DataConfig, answer: Answer) -> Result<Self, DataError> {
        let path = &config.path;
        let own = |stems: &[&str]| stem_file(path, stems, extensions(format));
        let named = !config.train_files.is_empty();
        let train = match format {
            _ if named => config.train_files.iter().map(|file| path.join(file)).collect(),
            _ if !path.is_dir() => vec![path.clone()],
            Format::FedsvdSplit => all_files(path, "jsonl", "file ending in .jsonl")?,
            Format::Sentences => sentence_files(path)?,
            Format::Text | Format::Plays if own(&["train"]).is_none() => all_files(path, "txt", "file ending in .txt")?,
            _ => vec![own(&["train"]).ok_or(DataError::MissingFile { folder: path.clone(), expected: "train file" })?],
        };
        let test = match format {
            _ if config.test_fraction.is_some() => None,
            Format::FedsvdSplit | Format::Sentences => test_path(config),
            // GLUE's own test files carry no labels.
            Format::GlueTsv => test_path(config).or_else(|| own(&["dev", "validation", "test"])),
            _ => test_path(config).or_else(|| own(&["test", "dev", "validation", "val"])),
        };
        Ok(Self { train, test, format, answer })
    }

    /// The rows of one of the training files.
    pub(super) fn read_train(&self, file: &Path, config: &DataConfig) -> Result<Vec<Record>, DataError> {
        read(file, self.format, config, self.answer)
    }

    /// The rows of a test file, which may be in another format than the training files.
    pub(super) fn read_test(&self, file: &Path, config: &DataConfig) -> Result<Vec<Record>, DataError> {
        let same = self.train.first().is_some_and(|train| train.extension() == file.extension());
        let format = if same { self.format } else { file_format(file)? };
        read(file, format, config, self.answer)
    }
}

/// The rows of one file; none at all is an error.
fn read(file: &Path, format: Format, config: &DataConfig, answer: Answer) -> Result<Vec<Record>, DataError> {
    let dialect = |delimiter, quoting| Dialect { delimiter, quoting, header: config.header };
    let rows = match format {
        Format::GlueTsv => delimited::read(file, dialect(b'\t', false), config, answer),
        Format::Tsv => delimited::read(file, dialect(b'\t', true), config, answer),
        Format::Csv => delimited::read(file, dialect(b',', true), config, answer),
        Format::Sentences => delimited::read(file, Dialect::SENTENCES, config, answer),
        Format::FedsvdSplit => jsonl::read(file, config, answer, Some("sentence2")),
        Format::Jsonl => jsonl::read(file, config, answer, None),
        Format::Text => running::whole(file),
        Format::Plays => running::plays(file, config.min_characters),
        _ => Err(DataError::UnknownFormat { path: file.into(), expected: "expected one text a line" }),
    }?;
    if rows.is_empty() { Err(DataError::NoRows { file: file.into() }) } else { Ok(rows) }
}

fn file_format(path: &Path) -> Result<Format, DataError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(Format::Csv),
        Some("tsv") => Ok(Format::GlueTsv),
        Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
        Some("json") => Ok(Format::Clinc150),
        Some("txt") => Ok(Format::Sentences),
        _ => Err(DataError::UnknownFormat { path: path.into(), expected: KNOWN_FILES }),
    }
}

fn folder_format(folder: &Path, config: &DataConfig) -> Result<Format, DataError> {
    if let Some(first) = config.train_files.first() {
        return file_format(first);
    }
    if folder.join("data_full.json").exists() {
        return Ok(Format::Clinc150);
    }
    let table = [Format::Csv, Format::GlueTsv, Format::Jsonl];
    if let Some(format) = table.into_iter().find(|format| stem_file(folder, &["train"], extensions(*format)).is_some())
    {
        return Ok(format);
    }
    if all_files(folder, "jsonl", "").is_ok() {
        return Ok(Format::FedsvdSplit);
    }
    if all_files(folder, "txt", "").is_ok() {
        return Ok(Format::Sentences);
    }
    Err(DataError::UnknownFormat { path: folder.into(), expected: KNOWN_FOLDERS })
}

fn extensions(format: Format) -> &'static [&'static str] {
    match format {
        Format::Csv => &["csv"],
        Format::GlueTsv | Format::Tsv => &["tsv"],
        Format::Sentences | Format::Text | Format::Plays => &["txt"],
        Format::Jsonl | Format::FedsvdSplit => &["jsonl", "ndjson"],
        _ => &["json"],
    }
}

/// The first of the stems that the folder has with one of the extensions.
fn stem_file(folder: &Path, stems: &[&str], extensions: &[&str]) -> Option<PathBuf> {
    let candidates =
        stems.iter().flat_map(|stem| extensions.iter().map(move |end| folder.join(format!("{stem}.{end}"))));
    candidates.into_iter().find(|file| file.is_file())
}

/// The UCI archive has a readme beside its data, so files that carry the archive's ending go before the others.
fn sentence_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let files = all_files(folder, "txt", "file ending in .txt")?;
    let labelled: Vec<PathBuf> = files.iter().filter(|file| stem(file).ends_with(LABELLED)).cloned().collect();
    Ok(if labelled.is_empty() { files } else { labelled })
}

const LABELLED: &str = "_labelled";

/// What a file is called as a source or client: its stem, without the ending of the UCI archive.
pub(super) fn source_name(file: &Path) -> String {
    let stem = stem(file);
    stem.strip_suffix(LABELLED).unwrap_or(&stem).to_owned()
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The folder's files with an extension, `part_10` after `part_9`.
fn all_files(folder: &Path, extension: &str, expected: &'static str) -> Result<Vec<PathBuf>, DataError> {
    let read = |source| DataError::Read { file: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let file = entry.map_err(read)?.path();
        if file.is_file() && file.extension().is_some_and(|found| found == extension) {
            files.push(file);
        }
    }
    files.sort_by_cached_key(|file| numbered(&stem(file)));
    if files.is_empty() { Err(DataError::MissingFile { folder: folder.into(), expected }) } else { Ok(files) }
}

/// A stem as its text, the number it ends in, and itself so that no two are equal.
fn numbered(stem: &str) -> (String, u64, String) {
    let text = stem.trim_end_matches(|character: char| character.is_ascii_digit());
    let number = stem.get(text.len()..).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (text.to_owned(), number, stem.to_owned())
}
