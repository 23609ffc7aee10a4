mod budget;
mod crash;
mod tamper;

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;
use crate::{ClipBound, NoiseMode, Origin, SampledGaussian, SecureRng, SimulatedRng};

/// One step costs 1/8: no rounding, so that limits are met exactly.
#[derive(Debug)]
struct EighthPerStep;

impl Accountant for EighthPerStep {
    fn epsilon(&self, history: &[SampledGaussian], _: f64) -> Result<f64, PrivacyError> {
        Ok(history.iter().map(|event| event.steps() as f64 / 8.0).sum())
    }

    /// A ledger never asks.
    fn delta(&self, _: &[SampledGaussian], _: f64) -> Result<f64, PrivacyError> {
        Ok(f64::NAN)
    }
}

const DATA: Fingerprint = Fingerprint([7; 32]);
const UPDATE: Fingerprint = Fingerprint([9; 32]);

fn terms() -> LedgerTerms {
    LedgerTerms {
        data: DATA,
        unit: PrivacyUnit::Example,
        units: 10_000,
        delta: 1e-5,
        epsilon_limit: 8.0,
        origin: Origin::OperatingSystem,
    }
}

fn release(round: u64, steps: u64) -> Release {
    Release {
        event: SampledGaussian::new(1.1, 0.01, steps).expect("a valid event"),
        clip_bound: ClipBound::new(0.5).expect("a bound"),
        mechanism: Mechanism::SampledGaussian,
        noise: NoiseMode::Grid,
        unit: PrivacyUnit::Example,
        units: 10_000,
        run: "a \"run\" of São Paulo".to_owned(),
        round,
        base: Fingerprint([3; 32]),
    }
}

fn secure() -> SecureRng {
    SecureRng::from_os().expect("randomness")
}

fn reserve(ledger: &mut Ledger, round: u64, steps: u64) -> Result<Reservation, LedgerError> {
    ledger.reserve(&release(round, steps), &secure(), &EighthPerStep)
}

struct Place {
    _directory: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("ledger.jsonl");
        Self { _directory: directory, path }
    }

    /// A ledger with a reservation, its commit, a limit and an open reservation: five lines, `ε` 1.5.
    fn with_history() -> Self {
        let place = Self::new();
        let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
        let first = reserve(&mut ledger, 1, 8).expect("affordable");
        ledger.commit(first, 8, UPDATE).expect("reserved");
        ledger.lower_limit(4.0).expect("lower");
        let _open = reserve(&mut ledger, 2, 4).expect("affordable");
        place
    }

    fn head(&self) -> PathBuf {
        self.beside(".head")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        disk::beside(&self.path, ending)
    }

    fn open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(&self.path, DATA)
    }

    /// Why it does not open.
    fn refusal(&self) -> LedgerError {
        let reader = Ledger::read(&self.path).map(|_| ()).expect_err("readers refuse as well");
        let error = self.open().map(|_| ()).expect_err("the ledger must not open");
        assert_eq!(reader.to_string(), error.to_string());
        error
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).expect("readable")
}

fn spent(view: &LedgerView) -> f64 {
    view.epsilon(&EighthPerStep).expect("a number")
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}
