//! From two files to a checked ledger, or to the reason why they are none.

use std::{fs, io, path::Path};

use super::{
    LedgerEntry, LedgerError, LedgerHead, LedgerView,
    chain::{self, MAX_LINE_BYTES, Wrong},
    head,
};

/// How often a reader looks again when a writer was at work in between.
const ATTEMPTS: usize = 100;

/// What a crash left behind the lines that the head knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    None,
    /// One whole line, which counts.
    Whole,
    /// A part of a line, which does not.
    Torn,
}

#[derive(Debug)]
pub(super) struct Reading {
    pub(super) view: LedgerView,
    pub(super) tail: Tail,
}

/// Reads and checks both files.
pub(super) fn read(path: &Path) -> Result<Reading, LedgerError> {
    // A writer changes the ledger, then the head. The same head before and after means one state of the ledger, with at
    // most one line that is being written.
    for _ in 0..ATTEMPTS {
        let before = head::read(path)?;
        let bytes = read_ledger(path)?;
        if head::read(path)? == before {
            return check(path, before, bytes.as_deref());
        }
    }
    Err(LedgerError::Locked { path: path.to_owned() })
}

fn read_ledger(path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LedgerError::io(path)(error)),
    }
}

/// A ledger from the content of both files.
pub(super) fn check(path: &Path, head: Option<LedgerHead>, bytes: Option<&[u8]>) -> Result<Reading, LedgerError> {
    let owned = || path.to_owned();
    match (head, bytes) {
        (None, None) => Err(LedgerError::Missing { path: owned() }),
        // Making it was interrupted, before there was anything in it to lose.
        (Some(head), None) if head.lines == 1 => Err(LedgerError::Missing { path: owned() }),
        (Some(head), None) => Err(LedgerError::Lost { path: owned(), lines: head.lines }),
        (None, Some(_)) => Err(LedgerError::HeadMissing { path: owned() }),
        (Some(head), Some(bytes)) => {
            let known = usize::try_from(head.bytes).unwrap_or(usize::MAX).min(bytes.len());
            let (known, tail) = bytes.split_at(known);
            let view = acknowledged(path, &head, known)?;
            unacknowledged(path, view, tail)
        }
    }
}

/// The lines that the head knows: all must be there, to the byte.
fn acknowledged(path: &Path, head: &LedgerHead, bytes: &[u8]) -> Result<LedgerView, LedgerError> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').map_while(|line| line.strip_suffix(b"\n"));
    let mut view = lines.next().map(|line| open(path, line)).transpose()?;
    if let Some(view) = &mut view {
        lines.try_for_each(|line| follow(path, view, line))?;
    }
    let at = view.as_ref().map_or(chain::START, LedgerView::head);
    if (bytes.len() as u64) < head.bytes {
        return Err(LedgerError::Shortened { path: path.to_owned(), expected: head.lines, found: at.lines });
    }
    view.filter(|_| at == *head).ok_or(LedgerError::Replaced { path: path.to_owned(), lines: at.lines })
}

/// What comes after: nothing, or what one interrupted write can leave.
fn unacknowledged(path: &Path, mut view: LedgerView, tail: &[u8]) -> Result<Reading, LedgerError> {
    if tail.is_empty() {
        return Ok(Reading { view, tail: Tail::None });
    }
    let end = tail.iter().position(|byte| *byte == b'\n');
    if tail.len() > MAX_LINE_BYTES || end.is_some_and(|end| end + 1 < tail.len()) {
        // More than one write behind: the head is an older copy.
        return Err(LedgerError::HeadBehind { path: path.to_owned(), lines: view.head().lines });
    }
    let outcome = end.map(|end| follow(path, &mut view, &tail[..end]));
    match outcome {
        Some(Ok(())) => Ok(Reading { view, tail: Tail::Whole }),
        // A disk writes the parts of a line in any order: its end may be there without its middle.
        None | Some(Err(LedgerError::Altered { .. })) => Ok(Reading { view, tail: Tail::Torn }),
        Some(Err(error)) => Err(error),
    }
}

/// Makes a ledger of its first line.
fn open(path: &Path, line: &[u8]) -> Result<LedgerView, LedgerError> {
    match parse(path, &chain::START, line)? {
        (LedgerEntry::Open(terms), head) => {
            terms.check()?;
            Ok(LedgerView::new(terms, head))
        }
        _ => Err(LedgerError::contradiction(path, 1, "the first line says what the ledger is about")),
    }
}

/// Adds the next line; adds nothing on an error.
fn follow(path: &Path, view: &mut LedgerView, line: &[u8]) -> Result<(), LedgerError> {
    let (entry, head) = parse(path, &view.head(), line)?;
    view.check(&entry).map_err(|what| LedgerError::contradiction(path, head.lines, what))?;
    view.push(entry, head);
    Ok(())
}

fn parse(path: &Path, at: &LedgerHead, line: &[u8]) -> Result<(LedgerEntry, LedgerHead), LedgerError> {
    let (path, number) = (path.to_owned(), at.lines + 1);
    chain::read(at, line).map_err(|wrong| match wrong {
        Wrong::Altered => LedgerError::Altered { path, line: number },
        Wrong::Unreadable(source) => LedgerError::Unreadable { path, line: number, source },
    })
}
