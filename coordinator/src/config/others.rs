//! A run's file as a coordinator reads it: its own keys, and nothing in it that nobody reads.

use super::{ConfigError, RunConfig};

/// Sections and keys of one file that clients and the simulator read.
const OTHERS: [&str; 13] = [
    "model",
    "data",
    "faults",
    "evaluate-every",
    "evaluate-clients",
    "average-last",
    "checkpoint-every",
    "cohort-size",
    "micro-batch-size",
    "gradient-checkpointing",
    "spill",
    "people-overlap",
    "exact-match",
];

/// The run's keys of a file whose remaining keys are all known to somebody.
///
/// # Errors
/// Those of [`RunConfig::take`]; a key that neither coordinator, client nor simulator reads, with the nearest that one
/// of them does.
pub fn parse_run(mut table: toml::Table) -> Result<RunConfig, ConfigError> {
    // Before the run's own keys are read: a mistyped key is also a missing one, and the typo is what helps.
    let known = || RunConfig::KEYS.into_iter().chain(OTHERS).chain(["num-server-rounds"]);
    if let Some(key) = table.keys().find(|key| !known().any(|name| name == key.as_str())) {
        let likeness = |name: &&str| strsim::normalized_damerau_levenshtein(key, name);
        let nearest = known().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        return Err(ConfigError::UnknownKey { key: key.clone(), nearest: nearest.map(str::to_owned) });
    }
    let config = RunConfig::take(&mut table)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> Result<RunConfig, String> {
        let text = format!("{extra}\nnum-rounds = 2\nlearning-rate = 0.1\nmethod.name = 'fedavg'\n");
        parse_run(text.parse().expect("valid TOML")).map_err(|error| error.to_string())
    }

    #[test]
    fn sections_of_clients_and_simulator_may_stand_in_the_same_file() {
        let others = "spill = true\npeople-overlap = true\nmodel.path = 'm'\ndata.path = 'd'\nfaults.dropout = 0.1";
        let config = parse(&format!("{others}\nexact-match.max-rows = 9")).expect("valid");
        assert_eq!(config.num_rounds, 2);
    }

    #[test]
    fn a_key_that_nobody_reads_names_the_nearest_one() {
        assert_eq!(parse("[modle]").expect_err("unknown"), "unknown key modle; did you mean model?");
        assert_eq!(parse("sed = 1").expect_err("unknown"), "unknown key sed; did you mean seed?");
    }
}
