//! From a file and overrides to a checked [`Config`], and back.

use std::path::Path;

use fedlora_coordinator::config::{ConfigError, RunConfig, explain, read_table, set};

use super::Config;

/// Where a [`Config`] keeps the keys of its run; no key of a file.
const RUN: &str = "run";

/// Reads a file, applies `key=value` overrides and checks the result.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(path: &Path, overrides: &[String]) -> Result<Config, ConfigError> {
    parse(read_table(path, overrides)?, &[])
}

/// A configuration from TOML and overrides.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse(mut table: toml::Table, overrides: &[String]) -> Result<Config, ConfigError> {
    overrides.iter().try_for_each(|text| set(&mut table, text))?;
    if table.contains_key(RUN) {
        return Err(ConfigError::UnknownKey { key: RUN.to_owned(), nearest: None });
    }
    let run = RunConfig::take(&mut table)?;
    table.insert(RUN.to_owned(), toml::Value::Table(run.to_table()?));
    let known = RunConfig::KEYS;
    let config: Config = toml::Value::Table(table).try_into().map_err(|error| explain(&error, &known))?;
    config.validate()?;
    Ok(config)
}

/// The configuration as a table, every default written out.
///
/// # Errors
/// A value that TOML cannot hold, such as an integer above `i64::MAX`.
pub fn to_table(config: &Config) -> Result<toml::Table, ConfigError> {
    let unwritable = |error: toml::ser::Error| ConfigError::Value(error.to_string());
    let mut table = toml::Table::try_from(config).map_err(unwritable)?;
    table.remove(RUN);
    table.extend(config.run.to_table()?);
    Ok(table)
}

/// As [`to_table`], as text.
///
/// # Errors
/// As [`to_table`].
pub fn to_toml(config: &Config) -> Result<String, ConfigError> {
    toml::to_string_pretty(&to_table(config)?).map_err(|error| ConfigError::Value(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        assert_eq!(config.run.lora.r, 4);
        assert_eq!(config.run.lora.target_modules, ["key"]);
        assert_eq!(config.data.source.path, Path::new("some/file.csv"));
    }

    #[test]
    fn an_override_without_a_value_removes_a_key_or_a_section() {
        let mut table = minimal();
        table.extend("batch-size = 7\n[faults]\ndropout-rate = 0.5\n".parse::<toml::Table>().expect("valid TOML"));
        let config = parse(table.clone(), &["batch-size=".to_owned(), "faults =".to_owned()]).expect("valid");
        let default = parse(minimal(), &[]).expect("valid");
        assert_eq!((config.run.batch_size, config.faults), (default.run.batch_size, default.faults));
        let error = parse(table, &["data.test-path=".to_owned()]).expect_err("it is not there").to_string();
        assert_eq!(error, "--set \"data.test-path=\" removes a key that the file does not have");
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
