//! Files that may be packed by gzip.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use super::content;
use crate::data::{DataError, RowProblem, lines::bad};

/// Text of more bytes than this is not read: no set of digits comes near, but a packed file may hold anything.
const LONGEST_TEXT: u64 = 1 << 30;

/// The file's content, unpacked where its name ends in `.gz`.
pub(super) fn open(file: &Path) -> Result<Box<dyn Read>, DataError> {
    let opened = File::open(file).map_err(|source| DataError::Read { file: file.into(), source })?;
    let reader = BufReader::new(opened);
    let packed = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
    Ok(if packed { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
}

/// Everything that is left, which must be `expected` bytes; memory grows with what is there, not with what is claimed.
pub(super) fn rest(file: &Path, reader: &mut dyn Read, expected: usize) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    match reader.take(expected as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() == expected => Ok(bytes),
        Ok(_) if bytes.len() > expected => {
            Err(content(file, format!("{expected} values behind the header"), "more than that"))
        }
        Err(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            Err(DataError::Read { file: file.into(), source })
        }
        _ => Err(content(file, format!("{expected} values behind the header"), format!("{}, cut off", bytes.len()))),
    }
}

/// All of a text file.
pub(super) fn text(file: &Path) -> Result<String, DataError> {
    let mut bytes = Vec::new();
    let mut reader = open(file)?.take(LONGEST_TEXT);
    reader.read_to_end(&mut bytes).map_err(|source| DataError::Read { file: file.into(), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
        let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
        bad(file, line, RowProblem::NotUtf8 { byte })
    })
}
