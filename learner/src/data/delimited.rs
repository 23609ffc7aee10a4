//! Comma- and tab-separated files.

use std::path::Path;
use std::sync::Arc;

use csv::StringRecord;

use super::columns::{Answer, Columns};
use super::lines::{self, LineCounter, bad};
use super::{DataConfig, DataError, Origin, Record, RowProblem};

/// How fields are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quoting: bool,
    pub(super) header: bool,
}

impl Dialect {
    pub(super) const SENTENCES: Self = Self { delimiter: b'\t', quoting: false, header: false };
}

/// All rows of a file.
pub(super) fn read(
    file: &Path,
    dialect: Dialect,
    config: &DataConfig,
    answer: Answer,
) -> Result<Vec<Record>, DataError> {
    let text = lines::read(file)?;
    if dialect.quoting
        && let Some(line) = open_quote(text.as_bytes(), dialect.delimiter)
    {
        return Err(bad(file, line, RowProblem::OpenQuote));
    }
    let mut rows = fields(file, &text, dialect)?.into_iter().peekable();
    let Some((_, first)) = rows.peek() else { return Err(DataError::NoRows { file: file.into() }) };
    let (columns, names) = if dialect.header {
        let header: Vec<String> = first.iter().map(|name| name.trim().to_owned()).collect();
        rows.next();
        (Columns::named(file, &header, config, answer)?, header)
    } else {
        let width = first.len();
        (Columns::numbered(file, width, config, answer)?, (0..width).map(|index| format!("column {index}")).collect())
    };
    let shared: Arc<Path> = file.into();
    rows.map(|(line, row)| record(&shared, line, &row, &columns, &names)).collect()
}

/// Every row's fields, the header's too, with the line it starts on; all of one width.
fn fields(file: &Path, text: &str, dialect: Dialect) -> Result<Vec<(usize, StringRecord)>, DataError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(dialect.delimiter)
        .quoting(dialect.quoting)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut counter = LineCounter::new(text);
    let mut rows: Vec<(usize, StringRecord)> = Vec::new();
    let mut row = StringRecord::new();
    // The text is in memory and is UTF-8, and rows may differ in width here: no error is left that this could raise.
    while reader.read_record(&mut row).unwrap_or(false) {
        let offset = row.position().map_or(0, csv::Position::byte) as usize;
        let line = counter.line_of_record(offset);
        let expected = rows.first().map_or(row.len(), |(_, first)| first.len());
        if row.len() != expected {
            return Err(bad(file, line, RowProblem::FieldCount { expected, found: row.len() }));
        }
        rows.push((line, row.clone()));
    }
    Ok(rows)
}

fn record(
    file: &Arc<Path>,
    line: usize,
    row: &StringRecord,
    columns: &Columns,
    names: &[String],
) -> Result<Record, DataError> {
    let value = |column: usize| row.get(column).unwrap_or_default().trim();
    let required = |column: usize| match value(column) {
        "" => {
            let column = names.get(column).cloned().unwrap_or_default();
            Err(bad(file, line, RowProblem::Value { column, expected: "text", found: "nothing" }))
        }
        found => Ok(found.to_owned()),
    };
    Ok(Record {
        text: required(columns.text)?,
        pair: columns.pair.map(value).filter(|pair| !pair.is_empty()).map(str::to_owned),
        label: required(columns.label)?,
        origin: Origin {
            group: columns.group.map(required).transpose()?,
            user: columns.user.map(required).transpose()?,
            ..Origin::at(file, line)
        },
    })
}

/// The line of a quote that is never closed. The csv crate reads such a field to the end of the file without
/// complaint, which would swallow every later row.
fn open_quote(bytes: &[u8], delimiter: u8) -> Option<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        FieldStart,
        Plain,
        Quoted,
        ClosingQuote,
    }
    let (mut at, mut opened, mut line) = (At::FieldStart, 1, 1);
    for &byte in bytes {
        at = match (at, byte) {
            (At::FieldStart, b'"') => {
                opened = line;
                At::Quoted
            }
            (At::Quoted, b'"') => At::ClosingQuote,
            // Two quotes in a quoted field stand for one.
            (At::ClosingQuote, b'"') | (At::Quoted, _) => At::Quoted,
            (_, b'\n' | b'\r') => At::FieldStart,
            (_, byte) if byte == delimiter => At::FieldStart,
            _ => At::Plain,
        };
        line += usize::from(byte == b'\n');
    }
    (at == At::Quoted).then_some(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quote_that_opens_a_field_and_never_closes_is_open() {
        assert_eq!(open_quote(b"a,b\n\"x\"\"\ny\",5\"\"\nz,1\n", b','), None);
        assert_eq!(open_quote(b"a,b\n\"x\ny\",1\nz,\"1\n\n", b','), Some(4));
        assert_eq!(open_quote(b"\"a\"\"\nb", b','), Some(1));
    }
}
