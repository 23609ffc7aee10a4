//! Text files with exact line numbers.

use std::path::Path;

use super::{DataError, RowProblem};

/// The whole file as text, without a byte order mark.
pub(super) fn read(file: &Path) -> Result<String, DataError> {
    let bytes = std::fs::read(file).map_err(|source| DataError::Read { file: file.into(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// An error about the row that starts on `line`.
pub(super) fn bad(file: &Path, line: usize, problem: RowProblem) -> DataError {
    DataError::Row { file: file.into(), line, problem }
}

fn not_utf8(file: &Path, error: &std::string::FromUtf8Error) -> DataError {
    let valid = error.utf8_error().valid_up_to();
    let (before, after) = error.as_bytes().split_at(valid);
    let byte = after.first().copied().unwrap_or_default();
    bad(file, 1 + newlines(before), RowProblem::NotUtf8 { byte })
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// Turns byte offsets that only grow into line numbers.
///
/// The csv crate's own count names the line on which the previous record ended when lines end in CR LF, or when empty
/// lines lie between, so its byte offset is used instead.
pub(super) struct LineCounter<'a> {
    bytes: &'a [u8],
    offset: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), offset: 0, line: 1 }
    }

    /// The line, from 1, of the first byte at or after `offset` that does not end a line.
    pub(super) fn line_of_record(&mut self, offset: usize) -> usize {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let skipped = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let start = offset + skipped;
        self.line += newlines(self.bytes.get(self.offset..start).unwrap_or_default());
        self.offset = start;
        self.line
    }
}
