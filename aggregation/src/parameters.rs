//! A method's parameters from a table, with errors that help.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::AggregationError;

/// Reads parameters; keys that are absent keep their defaults.
///
/// # Errors
/// Names an unknown key and the nearest known one; a value of a wrong type.
pub(crate) fn parse<P>(method: &'static str, table: &toml::Table) -> Result<P, AggregationError>
where
    P: Debug + Default + Serialize + DeserializeOwned,
{
    let invalid = |source| AggregationError::InvalidParameters { method, source };
    // The defaults, written out, are the list of known keys; a parameter therefore cannot be an `Option`.
    let known = toml::Table::try_from(P::default()).unwrap_or_default();
    if let Some(key) = table.keys().find(|key| !known.contains_key(*key)) {
        let nearest = nearest(key, known.keys().map(String::as_str)).map(str::to_owned);
        return Err(AggregationError::UnknownParameter { method, key: key.clone(), nearest });
    }
    P::deserialize(table.clone()).map_err(invalid)
}

/// Checks a number against its range.
///
/// # Errors
/// [`AggregationError::OutOfRange`] if it is not in there.
pub(crate) fn require(
    method: &'static str,
    key: &'static str,
    found: f64,
    is_valid: bool,
    expected: &'static str,
) -> Result<(), AggregationError> {
    if is_valid { Ok(()) } else { Err(AggregationError::OutOfRange { method, key, expected, found }) }
}

/// The name that takes the fewest edits.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|candidate| strsim::damerau_levenshtein(name, candidate))
}
