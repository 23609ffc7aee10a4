//! From text to tables and from tables to sections.

use std::{fs, path::Path};

use fedlora_learner::DataConfig;

use super::ConfigError;

/// The key of `[data]` that is not the reader's own.
const PERSONAL: &str = "personal-test-fraction";

/// A file as a table, with overrides applied.
///
/// # Errors
/// A file that cannot be read or is no TOML, and those of [`set`].
pub fn read_table(path: &Path, overrides: &[String]) -> Result<toml::Table, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let syntax = |source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) };
    let mut table = text.parse::<toml::Table>().map_err(syntax)?;
    overrides.iter().try_for_each(|text| set(&mut table, text))?;
    Ok(table)
}

/// Applies one `key=value` override; the value is TOML, or plain text so that paths need no quotes.
///
/// # Errors
/// Text without `=`; a key that goes through a value that is no table.
pub fn set(table: &mut toml::Table, text: &str) -> Result<(), ConfigError> {
    let malformed = || ConfigError::Override { text: text.to_owned() };
    let (key, value) = text.split_once('=').ok_or_else(malformed)?;
    let (path, last) = match key.trim().rsplit_once('.') {
        Some((path, last)) => (Some(path), last),
        None => (None, key.trim()),
    };
    if last.is_empty() {
        return Err(malformed());
    }
    let mut place = table;
    for part in path.iter().flat_map(|path| path.split('.')) {
        let inner = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new())).as_table_mut();
        place = inner.ok_or_else(|| ConfigError::NotATable { text: text.to_owned(), key: part.to_owned() })?;
    }
    let value = value.trim();
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    place.insert(last.to_owned(), parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())));
    Ok(())
}

/// Takes `[data]` out of a table: where the rows are, and which share of them tests the client's own model.
/// `foreign` are keys that others read.
///
/// # Errors
/// No such section; a key that is unknown, of the wrong type or out of range.
pub(super) fn take_data(table: &mut toml::Table, foreign: &[&str]) -> Result<(DataConfig, f64), ConfigError> {
    let Some(section) = table.remove("data") else { return Err(missing_data(table)) };
    let toml::Value::Table(mut data) = section else {
        return Err(ConfigError::invalid("data", "must be a section, [data]"));
    };
    let fraction = match data.remove(PERSONAL) {
        None => 0.0,
        Some(value) => {
            let number = value.as_float().or_else(|| value.as_integer().map(|value| value as f64));
            let number = number.filter(|number| (0.0..1.0).contains(number));
            number.ok_or_else(|| ConfigError::invalid(PERSONAL, "must be a number of at least 0 and below 1"))?
        }
    };
    for key in foreign {
        data.remove(*key);
    }
    let source = toml::Value::Table(data).try_into().map_err(|error| explain(&error, &[PERSONAL]))?;
    Ok((source, fraction))
}

/// A section that is misspelt is more likely than one that was forgotten.
fn missing_data(table: &toml::Table) -> ConfigError {
    let alike = |key: &&String| strsim::normalized_damerau_levenshtein(key, "data") >= 0.5;
    match table.keys().find(alike) {
        Some(key) => ConfigError::UnknownKey { key: key.clone(), nearest: Some("data".to_owned()) },
        None => ConfigError::MissingSection { section: "data" },
    }
}

/// Serde's error in the words of a person: an unknown key names the nearest known one, `others` included.
///
/// Serde's message about an unknown field lists the known ones between backticks; the nearest is what was meant.
#[must_use]
pub fn explain(error: &toml::de::Error, others: &[&str]) -> ConfigError {
    let message = error.message();
    if !message.starts_with("unknown field") {
        return ConfigError::Value(error.to_string().trim().to_owned());
    }
    let mut names = message.split('`').skip(1).step_by(2).map(str::to_owned);
    let key = names.next().unwrap_or_default();
    // Relative to the length: else every short typo would be nearest to the shortest key.
    let likeness = |known: &String| strsim::normalized_damerau_levenshtein(&key, known);
    let names = names.chain(others.iter().map(|&name| name.to_owned()));
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    ConfigError::UnknownKey { key, nearest }
}
