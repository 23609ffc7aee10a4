//! What happened, line by line: to read a failing seed by, and to compare two runs of one seed by. And counts of it.

use std::{collections::BTreeMap, fmt};

/// Lines that a failure prints; the whole trace comes when one seed is replayed.
const TAIL: usize = 150;

/// Lines, each with its virtual time.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn add(&mut self, now: u64, line: impl fmt::Display) {
        self.lines.push(format!("{now:>8} ms  {line}"));
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The end of it, or all.
    pub(super) fn text(&self, is_whole: bool) -> String {
        let left_out = if is_whole { 0 } else { self.lines.len().saturating_sub(TAIL) };
        format!("({left_out} lines before)\n{}", self.lines[left_out..].join("\n"))
    }
}

/// How often each thing happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(super) fn add(&mut self, what: &'static str, amount: u64) {
        *self.0.entry(what).or_default() += amount;
    }

    pub(super) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, amount)| self.add(what, *amount));
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(what, amount)| format!("{amount} {what}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken(pub(super) String);

/// The outcome of a check.
pub(super) type Checked<T = ()> = Result<T, Broken>;

/// Fails unless a promise holds.
pub(super) fn promise(holds: bool, else_say: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken(else_say())) }
}
