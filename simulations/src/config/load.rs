//! From a file and overrides to a checked [`Config`], with errors that name the nearest key.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fedlora_aggregation::AggregationError;

use super::Config;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// An override that is not `key=value`.
    #[error("--set {text:?}: expected key=value, for example --set lora.r=4")]
    Override {
        /// The override.
        text: String,
    },
    /// An override goes through a key that is not a table.
    #[error("--set {text:?}: {key} is not a table")]
    NotATable {
        /// The override.
        text: String,
        /// The key in the way.
        key: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key}{}", nearest.as_ref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or a missing key.
    #[error("{0}")]
    Value(String),
    /// The method: its name, its parameters, or an adapter kind that it cannot serve.
    #[error("method")]
    Method(#[from] AggregationError),
    /// A value out of range.
    #[error("{key} {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// What it must be.
        reason: String,
    },
}

impl ConfigError {
    /// A value out of range.
    pub fn invalid(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), reason: reason.into() }
    }
}

/// Reads a file, applies `key=value` overrides and checks the result.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(path: &Path, overrides: &[String]) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let table = text
        .parse::<toml::Table>()
        .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    parse(table, overrides)
}

/// A configuration from TOML and overrides.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse(mut table: toml::Table, overrides: &[String]) -> Result<Config, ConfigError> {
    for text in overrides {
        set(&mut table, text)?;
    }
    let config: Config = toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| explain(&error))?;
    config.validate()?;
    Ok(config)
}

/// The configuration as TOML, every default written out.
///
/// # Errors
/// A value that TOML cannot hold, such as an integer above `i64::MAX`.
pub fn to_toml(config: &Config) -> Result<String, ConfigError> {
    toml::to_string_pretty(config).map_err(|error| ConfigError::Value(error.to_string()))
}

fn set(table: &mut toml::Table, text: &str) -> Result<(), ConfigError> {
    let (key, value) = text.split_once('=').ok_or_else(|| ConfigError::Override { text: text.to_owned() })?;
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|part| !part.is_empty());
    let last = last.ok_or_else(|| ConfigError::Override { text: text.to_owned() })?;
    let mut place = table;
    for part in parts {
        let entry = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = entry
            .as_table_mut()
            .ok_or_else(|| ConfigError::NotATable { text: text.to_owned(), key: part.to_owned() })?;
    }
    place.insert(last.to_owned(), value_of(value.trim()));
    Ok(())
}

/// A TOML value, or plain text: `--set data.path=reviews.csv` needs no quotes.
fn value_of(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Serde's message about an unknown field lists the known ones between backticks; the nearest is what was meant.
fn explain(error: &toml::de::Error) -> ConfigError {
    let message = error.message();
    if !message.starts_with("unknown field") {
        return ConfigError::Value(error.to_string().trim().to_owned());
    }
    let mut names = message.split('`').skip(1).step_by(2).map(str::to_owned);
    let key = names.next().unwrap_or_default();
    // Relative to the length: else every short typo would be nearest to the key `r`.
    let likeness = |known: &String| strsim::normalized_damerau_levenshtein(&key, known);
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    ConfigError::UnknownKey { key, nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> toml::Table {
        "num-rounds = 2\nlearning-rate = 0.1\n[method]\nname = 'fedavg'\n[model]\npath = 'm'\n[data]\npath = 'd'\n"
            .parse()
            .expect("valid TOML")
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let error = parse(minimal(), &["learning-rat=1".to_owned()]).expect_err("no such key").to_string();
        assert_eq!(error, "unknown key learning-rat; did you mean learning-rate?");
        let error = parse(minimal(), &["lora.lora_alpa=1".to_owned()]).expect_err("no such key").to_string();
        assert_eq!(error, "unknown key lora_alpa; did you mean lora_alpha?");
        let error = parse(minimal(), &["lora.alpha=1".to_owned()]).expect_err("no such key").to_string();
        assert_eq!(error, "unknown key alpha; did you mean lora_alpha?");
    }

    #[test]
    fn overrides_reach_nested_keys_and_need_no_quotes() {
        let sets = ["lora.r=4", "data.path=some/file.csv", "lora.target_modules=[\"key\"]"].map(str::to_owned);
        let config = parse(minimal(), &sets).expect("valid");
        assert_eq!(config.lora.r, 4);
        assert_eq!(config.lora.target_modules, ["key"]);
        assert_eq!(config.data.source.path, Path::new("some/file.csv"));
    }

    #[test]
    fn the_resolved_configuration_reads_back_as_itself() {
        let config = parse(minimal(), &["method.head=frozen".to_owned()]).expect("valid");
        let text = to_toml(&config).expect("writable");
        assert_eq!(parse(text.parse().expect("valid TOML"), &[]).expect("valid"), config);
    }

    #[test]
    fn values_out_of_range_name_their_key() {
        for (text, key) in [("num-rounds=0", "num-rounds"), ("fraction-train=1.5", "fraction-train")] {
            let error = parse(minimal(), &[text.to_owned()]).expect_err("out of range").to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
