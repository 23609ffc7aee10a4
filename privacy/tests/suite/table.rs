//! Reads the tables of `tests/golden`.

use std::{fs::File, path::Path};

use fedlora_privacy::SampledGaussian;

/// One row, by column.
#[derive(Debug)]
pub(crate) struct Row {
    header: csv::StringRecord,
    record: csv::StringRecord,
}

impl Row {
    pub(crate) fn text(&self, column: &str) -> &str {
        let index = self.header.iter().position(|name| name == column).expect("a column of the table");
        &self.record[index]
    }

    pub(crate) fn number(&self, column: &str) -> f64 {
        self.text(column).parse().expect("a number")
    }

    pub(crate) fn steps(&self) -> u64 {
        self.text("steps").parse().expect("a count")
    }

    /// The step that the columns `sigma`, `q` and `steps` describe.
    pub(crate) fn event(&self) -> SampledGaussian {
        event(self.number("sigma"), self.number("q"), self.steps())
    }
}

pub(crate) fn event(noise_multiplier: f64, sample_rate: f64, steps: u64) -> SampledGaussian {
    SampledGaussian::new(noise_multiplier, sample_rate, steps).expect("valid parameters")
}

pub(crate) fn read(name: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("csv");
    let mut reader = csv::Reader::from_reader(File::open(path).expect("the table is committed"));
    let header = reader.headers().expect("a header").clone();
    let row = |record: csv::Result<_>| Row { header: header.clone(), record: record.expect("a row") };
    let rows: Vec<_> = reader.records().map(row).collect();
    assert!(!rows.is_empty(), "{name} has no rows");
    rows
}

/// `found` within a relative `tolerance` of `expected`.
#[track_caller]
pub(crate) fn assert_relative(found: f64, expected: f64, tolerance: f64, row: &impl std::fmt::Debug) {
    let error = if expected == 0.0 { found.abs() } else { (found / expected - 1.0).abs() };
    assert!(error <= tolerance, "found {found:e}, expected {expected:e}, error {error:e} in {row:?}");
}
