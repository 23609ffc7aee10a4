//! Lines and the digests that chain them.
//!
//! A line is `{"chain":"<64 digits>","entry":<JSON>}` and a line feed. Its digest is BLAKE3 over the digest of the line
//! before and the entry's bytes as they stand there, so that nothing depends on how JSON is written.

use super::{Fingerprint, LedgerEntry, LedgerError, LedgerHead};

/// Keeps digests of ledgers apart from all others. The version of the format is part of it.
const CONTEXT: &str = "fedlora 2026 privacy ledger, format 1";
/// No line is longer: names have at most 200 bytes, of which JSON makes at most 400.
pub(super) const MAX_LINE_BYTES: usize = 4096;
const BEFORE_CHAIN: &str = r#"{"chain":""#;
const BEFORE_ENTRY: &str = r#"","entry":"#;
const AFTER_ENTRY: &str = "}";

/// Before the first line.
pub(super) const START: LedgerHead = LedgerHead { lines: 0, bytes: 0, chain: Fingerprint([0; 32]) };

/// Why bytes are not the line that comes next.
#[derive(Debug)]
pub(super) enum Wrong {
    /// They are not what was written.
    Altered,
    /// They are what was written, but by another version of this program or by somebody else.
    Unreadable(serde_json::Error),
}

/// The first line and the head after it.
pub(super) fn first(entry: &LedgerEntry) -> Result<(String, LedgerHead), LedgerError> {
    next(&START, entry)
}

/// The line for an entry, with its line feed, and the head after it.
pub(super) fn next(head: &LedgerHead, entry: &LedgerEntry) -> Result<(String, LedgerHead), LedgerError> {
    let json = serde_json::to_string(entry).map_err(|source| LedgerError::Unwritable { source })?;
    let chain = digest(head.chain, json.as_bytes());
    let line = format!("{BEFORE_CHAIN}{chain}{BEFORE_ENTRY}{json}{AFTER_ENTRY}\n");
    let head = LedgerHead { lines: head.lines + 1, bytes: head.bytes + line.len() as u64, chain };
    Ok((line, head))
}

/// Reads the line that comes after `head`, given without its line feed.
pub(super) fn read(head: &LedgerHead, line: &[u8]) -> Result<(LedgerEntry, LedgerHead), Wrong> {
    let (chain, json) = split(line).ok_or(Wrong::Altered)?;
    if chain != digest(head.chain, json) {
        return Err(Wrong::Altered);
    }
    let entry = serde_json::from_slice(json).map_err(Wrong::Unreadable)?;
    Ok((entry, LedgerHead { lines: head.lines + 1, bytes: head.bytes + line.len() as u64 + 1, chain }))
}

fn split(line: &[u8]) -> Option<(Fingerprint, &[u8])> {
    let rest = line.strip_prefix(BEFORE_CHAIN.as_bytes())?;
    let (chain, rest) = rest.split_at_checked(64)?;
    let json = rest.strip_prefix(BEFORE_ENTRY.as_bytes())?.strip_suffix(AFTER_ENTRY.as_bytes())?;
    Some((std::str::from_utf8(chain).ok()?.parse().ok()?, json))
}

fn digest(before: Fingerprint, entry: &[u8]) -> Fingerprint {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&before.0).update(entry);
    Fingerprint(*hasher.finalize().as_bytes())
}
