//! What has been released about a data set, kept where the data is, so that the budget outlives runs and coordinators.
//!
//! # Rules
//! - **Reserve, train, commit.** [`Ledger::reserve`] is on the disk before it returns, and only then may training touch
//!   the data. What is reserved is spent for ever: a crash, a failed round or fewer steps than planned give nothing back,
//!   because nobody can prove afterwards what was seen. [`Ledger::commit`] adds what came of it; it never lowers.
//! - **The site decides.** `reserve` adds up everything ever reserved, with the new release, and refuses what would pass
//!   the site's own limit. No message of a coordinator gets past it. Raising the limit is an entry of its own.
//! - **A round asked again is charged again.** Training it once more draws fresh noise, which is a second release about
//!   the same people. Only the update that was kept may be sent again for free: [`LedgerView::released`] gives its digest.
//!
//! # Files
//! `<path>` has one JSON object a line, each with a BLAKE3 digest over itself and the digest before it. `<path>.head` has
//! the number of lines and bytes and the last digest; it is replaced after each line, before anything is acknowledged.
//! `<path>.lock` keeps two processes apart.
//!
//! A crash can leave at most one line that the head does not know. Whole, it counts: it was meant. Torn, it is cut off:
//! the head was written before anything was acknowledged, so nothing was trained on it. Whatever the head knows must be
//! there to the byte, or the ledger refuses: a line changed, lines missing, an older copy of either file.
//!
//! # What it cannot do
//! A local administrator can delete the files or put older copies of both in their place. To notice, keep
//! [`LedgerView::head`] elsewhere, for example with what is sent to the coordinator, and ask [`LedgerView::knows`].

mod chain;
mod disk;
mod entry;
mod error;
mod fingerprint;
mod head;
mod reading;
mod reservation;
mod view;

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

pub use entry::{LedgerEntry, LedgerTerms, LimitChange, Mechanism, PrivacyUnit, Release};
pub use error::LedgerError;
pub use fingerprint::Fingerprint;
pub use head::LedgerHead;
pub use reservation::Reservation;
pub use view::{LedgerSummary, LedgerView, Verification};

use crate::{Accountant, NoiseRng, PrivacyError};
use reading::{Reading, Tail};

/// A ledger that is open for reservations, by this process alone.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    /// Held as long as the ledger is open; the system lets go of it when the process ends, however it ends.
    _lock: File,
    view: LedgerView,
    /// A write went wrong, so that memory and file may differ.
    broken: bool,
}

impl Ledger {
    /// Makes the ledger of a data set. Missing directories are made.
    ///
    /// # Errors
    /// [`LedgerError::Exists`]; [`LedgerError::Lost`] where only a head is left; [`LedgerError::DeltaTooLarge`] unless
    /// `δ < 1/n`; other terms out of range; another process has it open; whatever the file system refuses.
    pub fn create(path: &Path, terms: LedgerTerms) -> Result<Self, LedgerError> {
        terms.check()?;
        disk::create_directory(disk::parent(path)).map_err(LedgerError::io(path))?;
        let lock = disk::lock(path)?;
        match reading::read(path) {
            Err(LedgerError::Missing { .. }) => {}
            Ok(_) => return Err(LedgerError::Exists { path: path.to_owned() }),
            Err(error) => return Err(error),
        }
        let (line, head) = chain::first(&LedgerEntry::Open(terms.clone()))?;
        // The head first: a head of one line without a ledger proves that nothing was ever reserved, so that a crash in
        // between is no loss. A ledger without a head proves nothing.
        head::write(path, &head)?;
        disk::replace(path, line.as_bytes()).map_err(LedgerError::io(path))?;
        let file = disk::open(path)?;
        let view = LedgerView::new(terms, head);
        Ok(Self { path: path.to_owned(), file, _lock: lock, view, broken: false })
    }

    /// Opens the ledger of this data set and checks every line of it.
    ///
    /// # Errors
    /// [`LedgerError::Missing`]; [`LedgerError::OtherData`]; [`LedgerError::Locked`]; one of the errors for a ledger that
    /// was changed, shortened or replaced; whatever the file system refuses.
    pub fn open(path: &Path, data: Fingerprint) -> Result<Self, LedgerError> {
        let lock = disk::lock(path)?;
        let Reading { view, tail, .. } = reading::read(path)?;
        if view.terms().data != data {
            let found = view.terms().data;
            return Err(LedgerError::OtherData { path: path.to_owned(), expected: data, found });
        }
        let file = disk::open(path)?;
        repair(path, &file, &view, tail)?;
        Ok(Self { path: path.to_owned(), file, _lock: lock, view, broken: false })
    }

    /// Reads and checks a ledger of any data set, also while another process has it open. Changes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the data set. [`LedgerError::Locked`] if it never stands still long enough.
    pub fn read(path: &Path) -> Result<LedgerView, LedgerError> {
        reading::read(path).map(|reading| reading.view)
    }

    /// What is in the ledger.
    #[must_use]
    pub fn view(&self) -> &LedgerView {
        &self.view
    }

    /// Charges a release, for ever, before anything is trained for it.
    ///
    /// `rng` is the generator that will sample and make the noise: a ledger for the operating system's randomness takes
    /// no simulated one, and the other way round.
    ///
    /// # Errors
    /// [`LedgerError::BudgetExhausted`] if `ε` of all history with this release would pass the limit, or is no number;
    /// [`LedgerError::OtherUnits`]; [`LedgerError::OtherOrigin`]; values out of range; [`LedgerError::Broken`]; whatever
    /// the file system refuses. Nothing is charged then, except perhaps after a failure to write: what has reached the
    /// disk counts when the ledger is opened again.
    pub fn reserve(
        &mut self,
        release: &Release,
        rng: &dyn NoiseRng,
        accountant: &dyn Accountant,
    ) -> Result<Reservation, LedgerError> {
        release.check(self.view.terms(), rng.origin())?;
        let epsilon = self.view.affordable(&release.event, accountant)?;
        let line = self.append(LedgerEntry::Reserve { release: release.clone(), origin: rng.origin(), epsilon })?;
        Ok(Reservation::new(line, self.view.head(), release.clone(), epsilon))
    }

    /// Notes what came of a reservation: how many steps were taken, and the digest of the update they made.
    ///
    /// The charge stays what was reserved, also where `steps` is less.
    ///
    /// # Errors
    /// [`LedgerError::TooManySteps`]; [`LedgerError::NotReserved`] for a reservation of another ledger;
    /// [`LedgerError::Broken`]; whatever the file system refuses.
    pub fn commit(&mut self, reservation: Reservation, steps: u64, update: Fingerprint) -> Result<(), LedgerError> {
        let reserved = reservation.event().steps();
        if steps > reserved {
            return Err(LedgerError::TooManySteps { reserved, taken: steps });
        }
        if !self.view.knows(&reservation.head()) {
            return Err(LedgerError::NotReserved { line: reservation.line() });
        }
        self.append(LedgerEntry::Commit { reservation: reservation.line(), steps, update }).map(|_| ())
    }

    /// Lowers the limit on `ε`. It may go below what is spent: then nothing more is granted.
    ///
    /// # Errors
    /// A limit that is not lower, negative or no number; [`LedgerError::Broken`]; whatever the file system refuses.
    pub fn lower_limit(&mut self, epsilon: f64) -> Result<(), LedgerError> {
        let previous = self.view.limit();
        if !(0.0..previous).contains(&epsilon) {
            let expected = "a number from 0 to below the present limit";
            return Err(PrivacyError::Parameter { name: "epsilon-limit", expected, found: epsilon }.into());
        }
        self.append(LedgerEntry::Limit(LimitChange { epsilon, previous, operator: None })).map(|_| ())
    }

    /// Raises the limit on `ε`, by decision of `operator`, a person or role at the site. Only the site's own tools may
    /// call this, never anything that a coordinator can reach.
    ///
    /// # Errors
    /// A limit that is not higher or not finite; an empty or overlong name; [`LedgerError::Broken`]; whatever the file
    /// system refuses.
    pub fn raise_limit(&mut self, epsilon: f64, operator: &str) -> Result<(), LedgerError> {
        let previous = self.view.limit();
        if !(epsilon.is_finite() && epsilon > previous) {
            let expected = "a finite number above the present limit";
            return Err(PrivacyError::Parameter { name: "epsilon-limit", expected, found: epsilon }.into());
        }
        entry::check_name("operator", operator)?;
        let operator = Some(operator.to_owned());
        self.append(LedgerEntry::Limit(LimitChange { epsilon, previous, operator })).map(|_| ())
    }

    /// Writes a line, then the head, and returns the line's number; the caller may act on it only then.
    fn append(&mut self, entry: LedgerEntry) -> Result<u64, LedgerError> {
        let old = self.view.head();
        let (line, new) = chain::next(&old, &entry)?;
        let size = self.file.metadata().map_err(LedgerError::io(&self.path))?.len();
        if self.broken || size != old.bytes {
            return Err(LedgerError::Broken { path: self.path.clone() });
        }
        self.view.check(&entry).map_err(|what| LedgerError::contradiction(&self.path, new.lines, what))?;
        self.broken = true;
        self.file.write_all(line.as_bytes()).map_err(LedgerError::io(&self.path))?;
        self.file.sync_all().map_err(LedgerError::io(&self.path))?;
        head::write(&self.path, &new)?;
        self.broken = false;
        self.view.push(entry, new);
        Ok(new.lines)
    }
}

/// Brings both files to the state that was read: cuts a torn line off, or tells the head of a whole one.
fn repair(path: &Path, file: &File, view: &LedgerView, tail: Tail) -> Result<(), LedgerError> {
    match tail {
        Tail::None => Ok(()),
        Tail::Torn => {
            let cut = file.set_len(view.head().bytes).and_then(|()| file.sync_all());
            cut.map_err(LedgerError::io(path))
        }
        Tail::Whole => {
            // The line may be in the system's memory only: it must not be lost after the head tells of it.
            file.sync_all().map_err(LedgerError::io(path))?;
            head::write(path, &view.head())
        }
    }
}

#[cfg(test)]
mod tests;
