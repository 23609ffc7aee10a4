//! Running text: whole files, and plays whose speakers are natural clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::lines::{self, bad};
use super::{DataError, Origin, Record, RowProblem};

/// A file as one text; without characters it has no row.
pub(super) fn whole(file: &Path) -> Result<Vec<Record>, DataError> {
    let text = lines::read(file)?;
    let row = Record { text, pair: None, label: String::new(), origin: Origin::at(&file.into(), 1) };
    Ok(if row.text.trim().is_empty() { Vec::new() } else { vec![row] })
}

/// One text for each speaker of at least `min_characters` characters: all that it says, in the order of the play.
///
/// Speeches are separated by empty lines; the first line of each is the speaker's name and a colon, and is not part of
/// the text, since it is the same whoever predicts it.
pub(super) fn plays(file: &Path, min_characters: usize) -> Result<Vec<Record>, DataError> {
    let text = lines::read(file)?;
    let shared: Arc<Path> = file.into();
    let mut speakers: BTreeMap<&str, Speaker<'_>> = BTreeMap::new();
    let mut speaking: Option<&str> = None;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_end();
        match speaking {
            _ if line.is_empty() => speaking = None,
            Some(name) => speakers.entry(name).or_default().lines.push(line),
            None => {
                let name = line.strip_suffix(':').filter(|name| !name.trim().is_empty());
                let name = name.ok_or_else(|| bad(file, number, RowProblem::NoSpeaker { found: start(line) }))?;
                speakers.entry(name).or_insert_with(|| Speaker { line: number, lines: Vec::new() });
                speaking = Some(name);
            }
        }
    }
    let longest = speakers.values().map(Speaker::characters).max().unwrap_or(0);
    let rows: Vec<Record> = speakers
        .into_iter()
        .filter(|(_, speaker)| speaker.characters() >= min_characters.max(1))
        .map(|(name, speaker)| speaker.record(name, &shared))
        .collect();
    if rows.is_empty() && longest > 0 {
        return Err(DataError::NoSpeaker { file: file.into(), min_characters, longest });
    }
    Ok(rows)
}

/// What one speaker says.
#[derive(Debug, Default)]
struct Speaker<'a> {
    /// Where its first speech begins.
    line: usize,
    lines: Vec<&'a str>,
}

impl Speaker<'_> {
    /// Ends of lines included.
    fn characters(&self) -> usize {
        self.lines.iter().map(|line| line.chars().count() + 1).sum()
    }

    fn record(&self, name: &str, file: &Arc<Path>) -> Record {
        let text = self.lines.join("\n") + "\n";
        let origin = Origin { group: Some(name.to_owned()), ..Origin::at(file, self.line) };
        Record { text, pair: None, label: String::new(), origin }
    }
}

/// Enough of a line to find it.
fn start(line: &str) -> String {
    line.chars().take(40).collect()
}
