//! From text to tables and from tables to sections, with errors that name the nearest key.

use std::{fs, path::Path};

use super::{ConfigError, RunConfig};

/// Names that older files and other systems give to a key.
const ALIASES: [(&str, &str); 1] = [("num-server-rounds", "num-rounds")];

impl RunConfig {
    /// The run's own keys at the top level of a file.
    pub const KEYS: [&str; 26] = [
        "name",
        "seed",
        "num-rounds",
        "clients-per-round",
        "fraction-train",
        "min-results",
        "min-available-clients",
        "over-sample",
        "grace-ms",
        "round-deadline-ms",
        "weighting",
        "local-epochs",
        "local-steps",
        "batch-size",
        "learning-rate",
        "optimizer",
        "momentum",
        "weight-decay",
        "lr-scheduler",
        "warmup-ratio",
        "max-grad-norm",
        "proximal-mu",
        "privacy",
        "central-privacy",
        "method",
        "lora",
    ];

    /// Takes the run's own keys out of a table and leaves the rest to others.
    ///
    /// # Errors
    /// A key that is missing, of the wrong type or out of range.
    pub fn take(table: &mut toml::Table) -> Result<Self, ConfigError> {
        let mut own = toml::Table::new();
        for (alias, key) in ALIASES {
            if let Some(value) = table.remove(alias) {
                own.insert(key.to_owned(), value);
            }
        }
        for key in Self::KEYS {
            own.extend(table.remove(key).map(|value| (key.to_owned(), value)));
        }
        let config: Self = toml::Value::Table(own).try_into().map_err(|error| explain(&error, &[]))?;
        config.validate()?;
        Ok(config)
    }

    /// The keys as a table, every default written out.
    ///
    /// # Errors
    /// A value that TOML cannot hold, such as an integer above `i64::MAX`.
    pub fn to_table(&self) -> Result<toml::Table, ConfigError> {
        toml::Table::try_from(self).map_err(|error| ConfigError::Value(error.to_string()))
    }
}

/// A file as a table, with overrides applied.
///
/// # Errors
/// A file that cannot be read or is no TOML, and those of [`set`].
pub fn read_table(path: &Path, overrides: &[String]) -> Result<toml::Table, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let mut table = text
        .parse::<toml::Table>()
        .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    overrides.iter().try_for_each(|text| set(&mut table, text))?;
    Ok(table)
}

/// Applies one `key=value` override; the value is TOML or plain text, so that `--set data.path=reviews.csv` needs no
/// quotes. Nothing behind the `=` removes the key, which may be a whole section.
///
/// # Errors
/// Text without `=`; a key that goes through a value that is no table; a key to remove that is not there.
pub fn set(table: &mut toml::Table, text: &str) -> Result<(), ConfigError> {
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
    if value.trim().is_empty() {
        // What is not there cannot be what was meant.
        let gone = place.remove(last);
        return gone.map(|_| ()).ok_or_else(|| ConfigError::NothingToRemove { text: text.to_owned() });
    }
    place.insert(last.to_owned(), value_of(value.trim()));
    Ok(())
}

/// A TOML value, or plain text: `--set data.path=reviews.csv` needs no quotes.
fn value_of(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
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
    // Relative to the length: else every short typo would be nearest to the key `r`.
    let likeness = |known: &String| strsim::normalized_damerau_levenshtein(&key, known);
    let names = names.chain(others.iter().map(|&name| name.to_owned()));
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    ConfigError::UnknownKey { key, nearest }
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::{NoiseLevel, PrivacyTerms};
    use fedlora_aggregation::AggregationError;

    use super::*;

    fn table(text: &str) -> toml::Table {
        text.parse().expect("valid TOML")
    }

    const MINIMAL: &str =
        "num-server-rounds = 2\nlearning-rate = 0.1\n[method]\nname = 'fedavg'\n[model]\npath = 'm'\n";

    #[test]
    fn a_run_takes_its_own_keys_and_leaves_the_sections_of_others() {
        let mut table = table(MINIMAL);
        let config = RunConfig::take(&mut table).expect("valid");
        assert_eq!((config.num_rounds, config.lora.r), (2, 8));
        assert_eq!(table.keys().collect::<Vec<_>>(), ["model"]);
    }

    #[test]
    fn every_key_is_listed() {
        let full = "clients-per-round = 3\nlocal-epochs = 1\n".to_owned() + MINIMAL;
        let config = RunConfig::take(&mut table(&full)).expect("valid");
        let privacy = PrivacyTerms::new(NoiseLevel::Multiplier(1.0), 1.0, 1e-5).ok();
        let central = "clipping-norm = 1.0\ntarget-delta = 1e-5\nnoise-multiplier = 1.0".parse::<toml::Table>();
        let central_privacy = toml::Value::Table(central.expect("TOML")).try_into().ok();
        let config = RunConfig { local_steps: Some(1), privacy, central_privacy, ..config };
        let mut keys: Vec<String> = config.to_table().expect("writable").keys().cloned().collect();
        keys.sort();
        let mut listed = RunConfig::KEYS.map(str::to_owned).to_vec();
        listed.sort();
        assert_eq!(keys, listed);
    }

    #[test]
    fn the_written_configuration_reads_back_as_itself() {
        let config = RunConfig::take(&mut table(MINIMAL)).expect("valid");
        let mut written = config.to_table().expect("writable");
        assert_eq!(RunConfig::take(&mut written).expect("valid"), config);
        assert!(written.is_empty());
    }

    #[test]
    fn rounds_of_fewer_clients_than_the_method_needs_are_refused() {
        let run = |keys: &str| {
            let text = format!(
                "{keys}\nnum-rounds = 2\nlearning-rate = 0.1\n[method]\nname = 'krum'\nnum-malicious-nodes = 2\n"
            );
            RunConfig::take(&mut table(&text))
        };
        let error = run("clients-per-round = 6").expect_err("seven are needed");
        assert!(matches!(error, ConfigError::Method(AggregationError::TooFewForMalicious { found: 6, needed: 7, .. })));
        run("clients-per-round = 7").expect("enough");
        // Without that key the number of clients decides.
        let open = run("fraction-train = 0.5").expect("may be enough");
        let error = open.settings(13).expect_err("half of 13 are six");
        assert!(matches!(error, ConfigError::Method(AggregationError::TooFewForMalicious { found: 6, needed: 7, .. })));
        open.settings(14).expect("half of 14 are seven");
    }
}
