//! Processes that are killed while they charge a ledger.
//!
//! A binary of its own: a child holds its parent's locks between fork and exec, so that ledgers of other tests in the
//! same process would now and then be found open.

#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use fedlora_privacy::{
    Accountant, ClipBound, Fingerprint, Ledger, LedgerEntry, LedgerTerms, Mechanism, NoiseMode, Origin, PrivacyError,
    PrivacyUnit, Release, SampledGaussian, SecureRng,
};

/// Names the ledger to the process that is to be killed.
const PLACE: &str = "FEDLORA_PRIVACY_TEST_LEDGER";
const DATA: Fingerprint = Fingerprint([7; 32]);
const TERMS: LedgerTerms = LedgerTerms {
    data: DATA,
    unit: PrivacyUnit::Example,
    units: 1000,
    delta: 1e-5,
    epsilon_limit: 1e9,
    origin: Origin::OperatingSystem,
};

#[derive(Debug)]
struct OnePerStep;

impl Accountant for OnePerStep {
    fn epsilon(&self, history: &[SampledGaussian], _: f64) -> Result<f64, PrivacyError> {
        Ok(history.iter().map(|event| event.steps() as f64).sum())
    }

    /// A ledger never asks.
    fn delta(&self, _: &[SampledGaussian], _: f64) -> Result<f64, PrivacyError> {
        Ok(f64::NAN)
    }
}

fn release(round: u64) -> Release {
    Release {
        event: SampledGaussian::new(1.0, 0.01, 1).expect("a valid event"),
        clip_bound: ClipBound::new(1.0).expect("a bound"),
        mechanism: Mechanism::SampledGaussian,
        noise: NoiseMode::Grid,
        unit: PrivacyUnit::Example,
        units: 1000,
        run: "killed".to_owned(),
        round,
        base: Fingerprint([1; 32]),
    }
}

/// Not a test of its own: the process that the other ones kill.
#[test]
#[ignore = "started by the other tests"]
fn reserve_until_killed() {
    let Some(path) = std::env::var_os(PLACE) else { return };
    let rng = SecureRng::from_os().expect("randomness");
    let mut ledger = Ledger::open(Path::new(&path), DATA).expect("unharmed");
    let mut out = std::io::stdout().lock();
    for round in 0_u64.. {
        let reservation = ledger.reserve(&release(round), &rng, &OnePerStep).expect("affordable");
        writeln!(out, "reserved {} .", reservation.line()).and_then(|()| out.flush()).expect("somebody listens");
        if round % 2 == 0 {
            ledger.commit(reservation, 1, DATA).expect("reserved");
        }
    }
}

/// Lets a process charge so many times, kills it wherever it is then, and returns the last line that it acknowledged.
fn kill_after(path: &Path, acknowledgements: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "reserve_until_killed", "--ignored", "--nocapture"])
        .env(PLACE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // The harness may have written something before it on the same line; a torn last line has no end mark.
    let number = |line: String| {
        let (_, number) = line.strip_suffix(" .")?.split_once("reserved ")?;
        number.parse::<u64>().ok()
    };
    let mut numbers = lines.map_while(Result::ok).filter_map(number);
    let last = numbers.nth(acknowledgements - 1).expect("it goes on");
    child.kill().expect("killable");
    child.wait().expect("it ends");
    // What it said before it died was acknowledged as well.
    numbers.last().unwrap_or(last)
}

fn kill(times: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("ledger.jsonl");
    drop(Ledger::create(&path, TERMS).expect("a new ledger"));
    for kill in 0..times {
        let acknowledged = kill_after(&path, 1 + kill % 5);
        let view = Ledger::read(&path).expect("readable after a kill");
        assert!(view.head().lines >= acknowledged, "kill {kill}: line {acknowledged} is gone");
        let reserved = view.entries().iter().filter(|entry| matches!(entry, LedgerEntry::Reserve { .. })).count();
        let spent = view.epsilon(&OnePerStep).expect("a number");
        assert!((spent - reserved as f64).abs() < 1e-9, "{spent} for {reserved}");
    }
    Ledger::open(&path, DATA).expect("unharmed");
}

#[test]
fn twenty_killed_processes_lose_no_acknowledged_reservation() {
    kill(20);
}

#[test]
#[ignore = "takes minutes: cargo test --release --test killed -- --ignored a_thousand"]
fn a_thousand_killed_processes_lose_no_acknowledged_reservation() {
    kill(1000);
}
