//! What a ledger adds up to.

use std::collections::BTreeMap;

use super::{Fingerprint, LedgerEntry, LedgerError, LedgerHead, LedgerTerms};
use crate::{Accountant, NoiseMode, Origin, PrivacyError, SampledGaussian};

/// The checked content of a ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerView {
    terms: LedgerTerms,
    limit: f64,
    entries: Vec<LedgerEntry>,
    head: LedgerHead,
    /// Digest of every line.
    chains: Vec<Fingerprint>,
    /// Steps by noise multiplier and sample rate, both as bits: accountants need no more, and a long history is short.
    steps: BTreeMap<(u64, u64), u64>,
    /// Steps of the reservations without a commit, by line.
    open: BTreeMap<u64, u64>,
}

/// What to tell people about a ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerSummary {
    /// What it is about. Its limit is the first one.
    pub terms: LedgerTerms,
    /// The limit on `ε` now.
    pub limit: f64,
    /// `ε` of everything reserved, at the ledger's `δ`.
    pub spent: f64,
    /// What is left, at least 0. `ε` does not add up: a release costs less than its own `ε` after many others.
    pub remaining: f64,
    /// Number of reservations.
    pub reservations: usize,
    /// How many of them were committed.
    pub commits: usize,
    /// Steps of all reservations.
    pub steps: u64,
    /// Whether all noise was the operating system's and on a grid. Otherwise the figures hold for ideal arithmetic or for
    /// nobody at all.
    pub protected: bool,
}

/// A claim and what it comes to when it is computed again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verification {
    /// `ε` that the last reservation recorded; 0 where there is none.
    pub recorded: f64,
    /// `ε` now. Another accountant may well find another one.
    pub recomputed: f64,
}

impl Verification {
    /// Whether the claim covers what was computed, but for rounding.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.recomputed <= self.recorded * (1.0 + 1e-9)
    }
}

impl LedgerView {
    pub(super) fn new(terms: LedgerTerms, head: LedgerHead) -> Self {
        let (limit, entries, chains) = (terms.epsilon_limit, vec![LedgerEntry::Open(terms.clone())], vec![head.chain]);
        Self { terms, limit, entries, head, chains, steps: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// What it is about.
    #[must_use]
    pub fn terms(&self) -> &LedgerTerms {
        &self.terms
    }

    /// The limit on `ε` now.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// All lines; the first one opens it.
    #[must_use]
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// Where it stands.
    #[must_use]
    pub fn head(&self) -> LedgerHead {
        self.head
    }

    /// Whether the ledger once stood at this head, with all that it contained then. An older copy has never.
    #[must_use]
    pub fn knows(&self, head: &LedgerHead) -> bool {
        let index = usize::try_from(head.lines).ok().and_then(|lines| lines.checked_sub(1));
        index.and_then(|index| self.chains.get(index)) == Some(&head.chain)
    }

    /// Everything ever reserved, releases of the same kind taken together.
    #[must_use]
    pub fn history(&self) -> Vec<SampledGaussian> {
        history(&self.steps)
    }

    /// `ε` of everything ever reserved, at the ledger's `δ`; 0 for nothing.
    ///
    /// # Errors
    /// The accountant's.
    pub fn epsilon(&self, accountant: &dyn Accountant) -> Result<f64, PrivacyError> {
        let history = self.history();
        if history.is_empty() { Ok(0.0) } else { accountant.epsilon(&history, self.terms.delta) }
    }

    /// The update that a committed reservation for this round made: what may be sent again without a new charge, if a
    /// kept file has this digest. The last one, if the round was trained more than once.
    #[must_use]
    pub fn released(&self, run: &str, round: u64) -> Option<Fingerprint> {
        self.entries.iter().rev().find_map(|entry| match entry {
            LedgerEntry::Commit { reservation, update, .. } => match self.line(*reservation) {
                Some(LedgerEntry::Reserve { release, .. }) if release.run == run && release.round == round => {
                    Some(*update)
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// Figures for people.
    ///
    /// # Errors
    /// The accountant's.
    pub fn summary(&self, accountant: &dyn Accountant) -> Result<LedgerSummary, PrivacyError> {
        let spent = self.epsilon(accountant)?;
        let count = |kind: fn(&LedgerEntry) -> bool| self.entries.iter().filter(|entry| kind(entry)).count();
        let unprotected = |entry: &LedgerEntry| match entry {
            LedgerEntry::Reserve { release, origin, .. } => {
                release.noise != NoiseMode::Grid || *origin != Origin::OperatingSystem
            }
            _ => false,
        };
        Ok(LedgerSummary {
            terms: self.terms.clone(),
            limit: self.limit,
            spent,
            remaining: (self.limit - spent).max(0.0),
            reservations: count(|entry| matches!(entry, LedgerEntry::Reserve { .. })),
            commits: count(|entry| matches!(entry, LedgerEntry::Commit { .. })),
            steps: self.steps.values().fold(0, |sum, steps| sum.saturating_add(*steps)),
            protected: self.terms.origin == Origin::OperatingSystem && !self.entries.iter().any(unprotected),
        })
    }

    /// Computes `ε` again and sets it beside what the ledger claims.
    ///
    /// # Errors
    /// The accountant's.
    pub fn verify(&self, accountant: &dyn Accountant) -> Result<Verification, PrivacyError> {
        let recorded = self.entries.iter().rev().find_map(|entry| match entry {
            LedgerEntry::Reserve { epsilon, .. } => Some(*epsilon),
            _ => None,
        });
        Ok(Verification { recorded: recorded.unwrap_or(0.0), recomputed: self.epsilon(accountant)? })
    }

    /// `ε` with one more release, if the limit allows it.
    pub(super) fn affordable(&self, event: &SampledGaussian, accountant: &dyn Accountant) -> Result<f64, LedgerError> {
        let mut steps = self.steps.clone();
        charge(&mut steps, event);
        let asked = accountant.epsilon(&history(&steps), self.terms.delta)?;
        // What is no number is not affordable either.
        if asked.is_nan() || asked > self.limit {
            return Err(LedgerError::BudgetExhausted { limit: self.limit, spent: self.epsilon(accountant)?, asked });
        }
        Ok(asked)
    }

    fn line(&self, number: u64) -> Option<&LedgerEntry> {
        usize::try_from(number).ok()?.checked_sub(1).and_then(|index| self.entries.get(index))
    }

    /// Whether an entry can come next; the reason if not.
    pub(super) fn check(&self, entry: &LedgerEntry) -> Result<(), &'static str> {
        let broken = match entry {
            LedgerEntry::Open(_) => Some("only the first line says what it is about"),
            LedgerEntry::Reserve { release, origin, epsilon } => {
                let fits = release.check(&self.terms, *origin).is_ok() && *epsilon <= self.limit;
                (!fits).then_some("the reservation does not fit the terms or the limit")
            }
            LedgerEntry::Commit { reservation, steps, .. } => {
                let fits = self.open.get(reservation).is_some_and(|reserved| steps <= reserved);
                (!fits).then_some("the commit has no open reservation of as many steps")
            }
            LedgerEntry::Limit(change) => {
                let raised = change.epsilon > change.previous;
                let fits = change.previous.to_bits() == self.limit.to_bits()
                    && change.epsilon.is_finite()
                    && change.epsilon >= 0.0
                    && raised == change.operator.is_some();
                (!fits).then_some("the limit does not follow from the one before, or nobody raised it")
            }
        };
        broken.map_or(Ok(()), Err)
    }

    /// Adds an entry that was checked.
    pub(super) fn push(&mut self, entry: LedgerEntry, head: LedgerHead) {
        match &entry {
            LedgerEntry::Open(_) => {}
            LedgerEntry::Reserve { release, .. } => {
                charge(&mut self.steps, &release.event);
                self.open.insert(head.lines, release.event.steps());
            }
            LedgerEntry::Commit { reservation, .. } => {
                self.open.remove(reservation);
            }
            LedgerEntry::Limit(change) => self.limit = change.epsilon,
        }
        self.entries.push(entry);
        self.chains.push(head.chain);
        self.head = head;
    }
}

fn charge(steps: &mut BTreeMap<(u64, u64), u64>, event: &SampledGaussian) {
    let kind = (event.noise_multiplier().to_bits(), event.sample_rate().to_bits());
    let sum = steps.entry(kind).or_insert(0);
    *sum = sum.saturating_add(event.steps());
}

fn history(steps: &BTreeMap<(u64, u64), u64>) -> Vec<SampledGaussian> {
    let event = |((sigma, rate), steps): (&(u64, u64), &u64)| {
        SampledGaussian::new(f64::from_bits(*sigma), f64::from_bits(*rate), *steps).ok()
    };
    // Every pair was an event's, so none is left out.
    steps.iter().filter_map(event).collect()
}
