//! A site's own privacy budget: what its data may cost, whoever asks.
//!
//! A site with a `[privacy]` section trains only under differential privacy, and only while the ledger of its data has
//! room. The ledger belongs to the data, not to a coordinator or a run, so that nobody gets a fresh budget by asking from
//! somewhere else. A site without the section never trains privately: nobody would keep the books.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use fedlora_adapter::{Digest, PrivacyTerms, ProtectedUnit, RoundPlan};
use fedlora_privacy::{
    ClipBound, Fingerprint, Ledger, LedgerError, LedgerTerms, Mechanism, Origin, PldAccountant, PrivacyUnit, Release,
    Reservation, SampledGaussian, SecureRng,
};
use serde::Deserialize;

/// What a site allows; the `[privacy]` section of its file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BudgetConfig {
    /// Largest `epsilon` that everything ever released about the site's data may come to.
    pub epsilon_limit: f64,
    /// At this `delta`, below one over the number of examples, or of users.
    pub delta: f64,
    /// Who is protected: one `example`, or all examples of one `user`, whom `data.user-column` names.
    #[serde(default)]
    pub unit: ProtectedUnit,
    /// Where ledgers are kept [default: `ledgers` in `state-dir`]. Whoever deletes them forgets what was spent.
    pub ledger_dir: Option<PathBuf>,
}

/// A budget, and the folder of its ledgers.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: f64,
    delta: f64,
    unit: ProtectedUnit,
    folder: PathBuf,
}

/// Why a budget stops training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// The ledger says no, or cannot be used. A machine finds the code at the start.
    #[error("{code}: the privacy ledger of this site's data")]
    Ledger {
        /// `BUDGET_EXHAUSTED` or `LEDGER_UNUSABLE`.
        code: Code,
        /// Why.
        #[source]
        source: LedgerError,
    },
    /// The file allows more than the ledger.
    #[error(
        "LIMIT_RAISED: epsilon-limit is {found}, the ledger {path} allows {expected}: raising it is a decision of its own, \
         by `fedlora-client ledger raise`"
    )]
    Raised {
        /// The ledger.
        path: PathBuf,
        /// The ledger's limit.
        expected: f64,
        /// The file's.
        found: f64,
    },
    /// The file has another `delta` than the ledger.
    #[error("OTHER_DELTA: delta is {found}, the ledger {path} was opened with {expected} and keeps it")]
    OtherDelta {
        /// The ledger.
        path: PathBuf,
        /// The ledger's.
        expected: f64,
        /// The file's.
        found: f64,
    },
    /// A run that protects somebody else than the site does.
    #[error(
        "OTHER_UNIT: a unit of privacy is one {found} in this run, and one {expected} in this site's file: [privacy] unit must \
         be the same in both"
    )]
    OtherUnit {
        /// The site's unit.
        expected: ProtectedUnit,
        /// The run's.
        found: ProtectedUnit,
    },
    /// Private training where nobody keeps the books.
    #[error(
        "NO_BUDGET: the run trains with differential privacy, but this site's file has no [privacy] section with \
         epsilon-limit and delta"
    )]
    NoBudget,
    /// Plain training where only private training is allowed.
    #[error(
        "NOT_PRIVATE: the run trains without differential privacy, which this site's [privacy] section does not allow"
    )]
    NotPrivate,
}

/// Stable codes of what a ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The limit would be passed.
    BudgetExhausted,
    /// The ledger was changed, belongs to other data, is in use or cannot be written.
    LedgerUnusable,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BudgetExhausted => "BUDGET_EXHAUSTED",
            Self::LedgerUnusable => "LEDGER_UNUSABLE",
        })
    }
}

impl From<LedgerError> for BudgetError {
    fn from(source: LedgerError) -> Self {
        let code = match source {
            LedgerError::BudgetExhausted { .. } => Code::BudgetExhausted,
            _ => Code::LedgerUnusable,
        };
        Self::Ledger { code, source }
    }
}

impl Budget {
    /// The budget of a site's file, with ledgers below its state directory unless the file says otherwise.
    #[must_use]
    pub fn new(config: &BudgetConfig, state_dir: &Path) -> Self {
        let folder = config.ledger_dir.clone().unwrap_or_else(|| state_dir.join("ledgers"));
        Self { limit: config.epsilon_limit, delta: config.delta, unit: config.unit, folder }
    }

    /// Who is protected.
    pub(crate) fn unit(&self) -> ProtectedUnit {
        self.unit
    }

    /// Checks that a run's terms speak of whom the site protects. Neither unit stands for the other: a user may have many
    /// examples, and one example more can turn a user's whole contribution around.
    ///
    /// # Errors
    /// [`BudgetError::OtherUnit`].
    pub(crate) fn check(&self, terms: PrivacyTerms) -> Result<(), BudgetError> {
        let (expected, found) = (self.unit, terms.unit());
        if expected == found { Ok(()) } else { Err(BudgetError::OtherUnit { expected, found }) }
    }

    /// Where the ledgers are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The ledger of a data set with this many units, made when it is first needed. A lower limit in the file is written down.
    ///
    /// # Errors
    /// A ledger that is unusable, or that the file contradicts.
    pub(crate) fn open(&self, data: Digest, units: u64) -> Result<Books, BudgetError> {
        let data = Fingerprint(*data.as_bytes());
        let path = self.folder.join(format!("{data}.jsonl"));
        let terms = LedgerTerms {
            data,
            unit: in_ledgers(self.unit),
            units,
            delta: self.delta,
            epsilon_limit: self.limit,
            origin: Origin::OperatingSystem,
        };
        let mut ledger = match Ledger::open(&path, data) {
            Err(LedgerError::Missing { .. }) => Ledger::create(&path, terms)?,
            opened => opened?,
        };
        let (limit, delta) = (ledger.view().limit(), ledger.view().terms().delta);
        if delta.total_cmp(&self.delta).is_ne() {
            return Err(BudgetError::OtherDelta { path, expected: delta, found: self.delta });
        }
        if self.limit > limit {
            return Err(BudgetError::Raised { path, expected: limit, found: self.limit });
        }
        if self.limit < limit {
            ledger.lower_limit(self.limit)?;
        }
        Ok(Books { ledger, units })
    }
}

/// The open ledger of the data that a site trains on.
#[derive(Debug)]
pub(crate) struct Books {
    ledger: Ledger,
    units: u64,
}

impl Books {
    /// Charges a round before anything is trained for it.
    ///
    /// # Errors
    /// The budget is exhausted, or the ledger cannot be used: nothing may be trained.
    pub(crate) fn reserve(
        &mut self,
        plan: &RoundPlan,
        terms: PrivacyTerms,
        event: SampledGaussian,
    ) -> Result<Reservation, BudgetError> {
        let release = Release {
            event,
            clip_bound: ClipBound::new(terms.max_grad_norm()).map_err(LedgerError::from)?,
            mechanism: Mechanism::SampledGaussian,
            noise: fedlora_learner::noise_mode(terms.noise_kind()),
            unit: in_ledgers(terms.unit()),
            units: self.units,
            run: plan.run.clone(),
            round: plan.round.0,
            base: Fingerprint(*plan.base.as_bytes()),
        };
        let rng = SecureRng::from_os().map_err(LedgerError::from)?;
        let reservation = self.ledger.reserve(&release, &rng, &PldAccountant::new())?;
        tracing::info!(round = plan.round.0, epsilon = reservation.epsilon(), "privacy charged");
        Ok(reservation)
    }

    /// Notes what came of a charge.
    ///
    /// # Errors
    /// A ledger that cannot be written: the update must not be sent.
    pub(crate) fn commit(&mut self, reservation: Reservation, steps: u64, update: Digest) -> Result<(), BudgetError> {
        Ok(self.ledger.commit(reservation, steps, Fingerprint(*update.as_bytes()))?)
    }
}

fn in_ledgers(unit: ProtectedUnit) -> PrivacyUnit {
    match unit {
        ProtectedUnit::Example => PrivacyUnit::Example,
        ProtectedUnit::User => PrivacyUnit::User,
    }
}
