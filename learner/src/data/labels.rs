//! From label names to numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::{DataError, Row};

/// The distinct labels: in numeric order if all are whole numbers, otherwise in order of their bytes.
pub(super) fn names(rows: &[impl Row]) -> Vec<String> {
    ordered(rows.iter().map(Row::label))
}

/// Distinct names, in the order of [`names`].
pub(super) fn ordered<'a>(all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let distinct: BTreeSet<&str> = all.collect();
    let mut names: Vec<String> = distinct.into_iter().map(str::to_owned).collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

/// Every row's number in `names`; a label that is not there is an error.
pub(super) fn numbers<R: Row>(rows: &[R], names: &[String]) -> Result<Vec<u32>, DataError> {
    numbers_or(rows, names, |row| DataError::UnseenLabel {
        file: row.origin().file.to_path_buf(),
        line: row.origin().line,
        label: row.label().to_owned(),
    })
}

/// Checks that every row's label is one of a federation's.
pub(super) fn check_known<R: Row>(rows: &[R], names: &[String]) -> Result<(), DataError> {
    let unknown = |row: &R| DataError::UnknownLabel {
        file: row.origin().file.to_path_buf(),
        line: row.origin().line,
        label: row.label().to_owned(),
        known: names.to_vec(),
    };
    numbers_or(rows, names, unknown).map(|_| ())
}

fn numbers_or<R: Row>(rows: &[R], names: &[String], unknown: impl Fn(&R) -> DataError) -> Result<Vec<u32>, DataError> {
    let by_name: BTreeMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
    rows.iter().map(|row| by_name.get(row.label()).copied().ok_or_else(|| unknown(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Record};
    use super::*;

    fn row(label: &str) -> Record {
        let (text, label) = ("some text".to_owned(), label.to_owned());
        Record { text, pair: None, label, origin: Origin::at(&std::path::Path::new("a.csv").into(), 7) }
    }

    #[test]
    fn whole_numbers_are_ordered_by_value_and_names_by_bytes() {
        assert_eq!(names(&["10", "9", "-1", "9"].map(row)), ["-1", "9", "10"]);
        assert_eq!(names(&["10", "9", "b", "a"].map(row)), ["10", "9", "a", "b"]);
    }

    #[test]
    fn an_unseen_label_is_named_with_its_file_and_line() {
        let error = numbers(&[row("a"), row("c")], &["a".into(), "b".into()]).unwrap_err();
        assert_eq!(error.to_string(), "a.csv:7: label `c` does not occur in the training rows");
    }
}
