//! Several runs side by side: methods against reference rows, or a grid of settings, each over some seeds.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fedlora_aggregation::Method;
use fedlora_coordinator::config::{ConfigError, MethodConfig};

use crate::{
    config::{self, Config},
    error::SimulationError,
    experiment::{Clients, Material},
    observer::Observer,
    report::{self, Comparison, RunRecord},
    runner::{self, Output},
};

/// Name of the row in which one client holds all rows.
pub const CENTRALISED: &str = "centralised";
/// Rows that every comparison has: what federation must beat, what it cannot beat, and what everyone starts with.
const REFERENCES: [&str; 3] = ["local-only", CENTRALISED, "fedavg"];

/// One line of a comparison.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its configuration, whatever the seed.
    pub config: Config,
}

/// The rows of a comparison of methods: the reference rows, then the named ones.
///
/// Parameters under `[method]` belong to the method named there; the others run with their defaults.
///
/// # Errors
/// A name that is not in the registry; a method that cannot serve the configured adapter.
pub fn methods(config: &Config, names: &[String]) -> Result<Vec<Row>, SimulationError> {
    let mut rows: Vec<Row> = Vec::new();
    for name in REFERENCES.into_iter().chain(names.iter().map(String::as_str)) {
        if rows.iter().any(|row| row.name == name) {
            continue;
        }
        let mut config = config.clone();
        let method = if name == CENTRALISED { "fedavg" } else { Method::find(name)?.name };
        if config.run.method.name != method {
            config.run.method = MethodConfig { name: method.to_owned(), parameters: toml::Table::new() };
        }
        if name == CENTRALISED {
            // One client with all rows: there is no client to be protected from the others.
            config.run.central_privacy = None;
        }
        name.clone_into(&mut config.run.name);
        // Now, rather than after the rows before it have run.
        config.validate()?;
        rows.push(Row { name: name.to_owned(), config });
    }
    Ok(rows)
}

/// The rows of a sweep: every combination of the values of `key=value,value,…`.
///
/// # Errors
/// A grid that is not of that form, or values that the configuration refuses.
pub fn grid(config: &Config, grids: &[String]) -> Result<Vec<Row>, SimulationError> {
    let mut combinations: Vec<Vec<String>> = vec![Vec::new()];
    for grid in grids {
        let (key, values) = grid.split_once('=').ok_or_else(|| ConfigError::Override { text: grid.clone() })?;
        if key.trim() == "seed" {
            return Err(ConfigError::invalid("--grid seed", "makes no row of its own: use --seeds").into());
        }
        let extend = |combination: &Vec<String>| -> Vec<Vec<String>> {
            let with = |value: &str| [combination.as_slice(), &[format!("{key}={value}")]].concat();
            values.split(',').map(with).collect()
        };
        combinations = combinations.iter().flat_map(extend).collect();
    }
    let table = config::to_table(config)?;
    combinations
        .into_iter()
        .map(|sets| {
            let name = if sets.is_empty() { config.run.name.clone() } else { sets.join(" ") };
            let mut config = config::parse(table.clone(), &sets)?;
            config.run.name.clone_from(&name);
            Ok(Row { name, config })
        })
        .collect()
}

/// Loads the base model and the examples of a configuration, and divides the examples.
pub type Load<'a> = &'a dyn Fn(&Config) -> Result<(Material, Clients), SimulationError>;

/// Material that rows with the same model, examples and seed share.
struct Loaded {
    config: Config,
    material: Material,
    clients: Clients,
}

/// Runs every row with every seed, each in a directory of its own, and writes the comparison.
///
/// With `resume`, finished runs are read instead of repeated and an unfinished one goes on from its checkpoint.
///
/// # Errors
/// The first run that fails; the finished ones stay.
pub fn play(
    rows: &[Row],
    seeds: &[u64],
    load: Load<'_>,
    output: &Output,
    observer: &dyn Fn(&str) -> Box<dyn Observer>,
    interrupted: &Arc<AtomicBool>,
) -> Result<Comparison, SimulationError> {
    let mut records: BTreeMap<usize, Vec<RunRecord>> = BTreeMap::new();
    'seeds: for &seed in seeds {
        let mut loaded: Option<Loaded> = None;
        for (index, row) in rows.iter().enumerate() {
            let mut config = row.config.clone();
            config.run.seed = seed;
            let directory = output.directory.join(directory_name(&row.name)).join(format!("seed-{seed}"));
            let place = Output { directory, resume: output.resume };
            let record = if let Some(record) = finished(&place)? {
                record
            } else {
                let shared = share(loaded.take(), &config, load)?;
                let watcher = observer(&format!("{} · seed {seed}", row.name));
                let record = run_row(row, &config, &shared, &place, watcher, interrupted)?;
                loaded = Some(shared);
                record
            };
            records.entry(index).or_default().push(record);
            if interrupted.load(Ordering::Relaxed) {
                break 'seeds;
            }
        }
    }
    let named = records.into_iter().map(|(index, runs)| (rows[index].name.clone(), runs)).collect::<Vec<_>>();
    Ok(report::write_comparison(&output.directory, &named)?)
}

/// What an earlier row loaded, if this one reads the same; else what this one needs.
fn share(loaded: Option<Loaded>, config: &Config, load: Load<'_>) -> Result<Loaded, SimulationError> {
    match loaded.filter(|loaded| same_material(&loaded.config, config)) {
        Some(loaded) => Ok(loaded),
        None => load(config).map(|(material, clients)| Loaded { config: config.clone(), material, clients }),
    }
}

fn run_row(
    row: &Row,
    config: &Config,
    shared: &Loaded,
    output: &Output,
    observer: Box<dyn Observer>,
    interrupted: &Arc<AtomicBool>,
) -> Result<RunRecord, SimulationError> {
    let Loaded { material, clients, .. } = shared;
    if row.name == CENTRALISED {
        let everyone = Material::centralised(clients);
        return runner::run(config, material, &everyone, output, observer, interrupted);
    }
    runner::run(config, material, clients, output, observer, interrupted)
}

/// The record of a run that needs no repetition.
fn finished(output: &Output) -> Result<Option<RunRecord>, SimulationError> {
    if !output.resume || !output.directory.join("metrics_summary.json").exists() {
        return Ok(None);
    }
    let record = report::load_run(&output.directory)?;
    Ok(runner::completed(&record.summary).then_some(record))
}

/// Whether two configurations read the same model and examples and divide them alike.
fn same_material(a: &Config, b: &Config) -> bool {
    (a.run.seed, &a.model, &a.data) == (b.run.seed, &b.model, &b.data)
}

/// A row's name as a directory: anything but letters, digits, dots, dashes and equals signs becomes a dash.
fn directory_name(name: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || ".-=".contains(letter);
    name.chars().map(|letter| if safe(letter) { letter } else { '-' }).collect()
}

/// Reads finished runs for a report over several directories.
///
/// # Errors
/// A directory that holds no finished run.
pub fn load(directories: &[&Path]) -> Result<Vec<(String, Vec<RunRecord>)>, SimulationError> {
    let mut rows: Vec<(String, Vec<RunRecord>)> = Vec::new();
    for directory in directories {
        if !directory.join("metrics_summary.json").exists() {
            return Err(SimulationError::NoRun { path: (*directory).to_owned() });
        }
        let record = report::load_run(directory)?;
        let name = record.summary.name.clone();
        match rows.iter_mut().find(|(row, _)| *row == name) {
            Some((_, records)) => records.push(record),
            None => rows.push((name, vec![record])),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "num-rounds = 2\nlearning-rate = 0.1\n[method]\nname = 'lora-fair'\nlambda = 0.5\n\
                    [model]\npath = 'm'\n[data]\npath = 'd'\n";
        config::parse(text.parse().expect("valid TOML"), &[]).expect("valid configuration")
    }

    #[test]
    fn every_comparison_has_the_reference_rows_and_parameters_stay_with_their_method() {
        let rows = methods(&config(), &["fedavg", "lora-fair"].map(str::to_owned)).expect("known methods");
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["local-only", "centralised", "fedavg", "lora-fair"]);
        assert!(rows[2].config.run.method.parameters.is_empty());
        assert_eq!(rows[3].config.run.method.parameters, config().run.method.parameters);
    }

    #[test]
    fn a_grid_is_the_product_of_its_values() {
        let rows = grid(&config(), &["lora.r=2,4", "learning-rate=0.1,0.2"].map(str::to_owned)).expect("valid");
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names[1], "lora.r=2 learning-rate=0.2");
        assert_eq!((rows.len(), rows[3].config.run.lora.r), (4, 4));
    }

    #[test]
    fn an_unknown_method_names_the_nearest() {
        let error = methods(&config(), &["fedsdv".to_owned()]).expect_err("unknown").to_string();
        assert_eq!(error, "method");
    }
}
