//! The sample run.

use fedlora_coordinator::config::{RunConfig, parse_run};

use crate::files::read;

#[test]
fn the_sample_run_is_valid_and_leaves_only_the_sections_of_others() {
    let mut table: toml::Table = read("run.toml").parse().expect("valid TOML");
    let config = RunConfig::take(&mut table).expect("valid");
    assert_eq!(table.keys().collect::<Vec<_>>(), ["data", "model"]);
    assert_eq!((config.method.name.as_str(), config.num_rounds, config.lora.r), ("fedsa-lora", 3, 8));
    parse_run(read("run.toml").parse().expect("valid TOML")).expect("every key is known to somebody");
}

#[test]
fn the_sample_run_works_with_the_three_clients_of_the_compose_file() {
    let config = parse_run(read("run.toml").parse().expect("valid TOML")).expect("valid");
    assert_eq!(config.min_available_clients, 3);
    let settings = config.settings(3).expect("three are enough");
    assert_eq!(settings.clients_per_round, 3);
}
