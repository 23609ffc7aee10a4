//! What each command does.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fedlora_aggregation::{METHODS, Method};
use fedlora_client::cli::devices;
use fedlora_coordinator::config::ConfigError;
use fedlora_learner::Device;
use serde_json::json;

use super::{
    AUTO, Answer, Cli, Command, CompareArgs, ConfigArgs, ConfigCommand, LinkArg, OutArgs, PretrainArgs, QuickstartArgs,
    ReportArgs, RunArgs, SweepArgs, privacy,
};
use crate::{
    SimulationError, builtin,
    config::{self, Config},
    deployed,
    experiment::{Clients, Devices, Material},
    observer::{Bar, Observer},
    pretraining::{self, PretrainConfig},
    record,
    report::{self, Comparison, RunRecord},
    runner::{self, Output},
    study,
};

/// Exit code of a run that was stopped by an interrupt and is safe on disk.
const INTERRUPTED: u8 = 130;

pub(super) fn run(cli: Cli) -> Result<Answer, SimulationError> {
    let threads = cli.threads.unwrap_or(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|source| SimulationError::Threads { threads, source })?;
    let command = cli.command.unwrap_or(Command::Quickstart(QuickstartArgs::default()));
    pool.install(|| match command {
        Command::Quickstart(args) => quickstart(&args),
        Command::Run(args) => run_one(&args),
        Command::Compare(args) => compare(&args),
        Command::Sweep(args) => sweep(&args),
        Command::Pretrain(args) => pretrain(&args),
        Command::Report(args) => report(&args),
        Command::Config(ConfigCommand::Check(args)) => {
            load(&args)?;
            Ok(Answer::new(format!("{} is valid", args.config.display()), json!({ "valid": true })))
        }
        Command::Config(ConfigCommand::Show(args)) => {
            let config = load(&args)?;
            let text = config::to_toml(&config)?;
            Ok(Answer::new(text, json!(config)))
        }
        Command::Methods => Ok(methods()),
        Command::Devices => Ok(devices::list()),
        Command::Privacy(command) => privacy::run(&command),
    })
}

fn load(args: &ConfigArgs) -> Result<Config, SimulationError> {
    let mut config = config::load(&args.config, &args.set)?;
    config.run.seed = args.seed.unwrap_or(config.run.seed);
    Ok(config)
}

fn output(args: &OutArgs, config: &Config) -> Output {
    let directory = args.out.clone().unwrap_or_else(|| Path::new("runs").join(&config.run.name));
    Output { directory, resume: args.resume }
}

fn open(device: &str) -> Result<Device, SimulationError> {
    devices::open(device).map_err(SimulationError::Device)
}

/// The devices of these names, at least one.
fn open_all(names: &[String]) -> Result<Devices, SimulationError> {
    let (first, others) = names.split_first().ok_or(ConfigError::invalid("--device", "must name a device"))?;
    let others = others.iter().map(|name| open(name)).collect::<Result<_, _>>()?;
    Ok(Devices { first: open(first)?, others })
}

fn material(config: &Config, devices: &Devices) -> Result<(Material, Clients), SimulationError> {
    let material = Material::load(config, devices)?;
    if material.left_out > 0 {
        let (rows, length) = (material.left_out, config.data.source.max_length);
        eprintln!("warning: rows left out: {rows}; prompts leave no room for a response in {length} tokens");
    }
    let clients = material.clients(config)?;
    Ok((material, clients))
}

fn bar(label: &str) -> Box<dyn Observer> {
    Box::new(Bar::new(label))
}

/// A flag that the first Ctrl-C raises; the round in progress is finished and checkpointed.
fn interrupt() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let handler = move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("\nfinishing this round; press Ctrl-C again to stop at once and lose it");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: Ctrl-C will stop at once instead of after the round: {error}");
    }
    flag
}

fn run_one(args: &RunArgs) -> Result<Answer, SimulationError> {
    let config = load(&args.config)?;
    let output = output(&args.out, &config);
    let (material, clients) = material(&config, &open_all(&args.out.device)?)?;
    let interrupted = interrupt();
    let run = match args.link {
        LinkArg::Direct => runner::run,
        LinkArg::Grpc => deployed::run,
    };
    let record = run(&config, &material, &clients, &output, bar(&config.run.name), &interrupted)?;
    let mut answer = finished_run(&record, &output.directory);
    if !runner::completed(&record.summary) {
        let _ = writeln!(answer.text, "stopped   go on with the same command and --resume");
        answer.exit_code = INTERRUPTED;
    }
    Ok(answer)
}

fn compare(args: &CompareArgs) -> Result<Answer, SimulationError> {
    let config = load(&args.config)?;
    let names: Vec<String> = args.methods.iter().flat_map(|name| group(name)).collect();
    play(&study::methods(&config, &names)?, &config, &args.seeds, &args.out)
}

/// The methods that one word of `--methods` stands for.
fn group(word: &str) -> Vec<String> {
    let chosen = |robust: bool| METHODS.iter().filter(move |method| method.is_robust == robust);
    match word {
        "all" => chosen(false).map(|method| method.name.to_owned()).collect(),
        "robust" => chosen(true).map(|method| method.name.to_owned()).collect(),
        name => vec![name.to_owned()],
    }
}

fn sweep(args: &SweepArgs) -> Result<Answer, SimulationError> {
    let config = load(&args.config)?;
    play(&study::grid(&config, &args.grid)?, &config, &args.seeds, &args.out)
}

fn play(rows: &[study::Row], config: &Config, seeds: &[u64], out: &OutArgs) -> Result<Answer, SimulationError> {
    let seeds = if seeds.is_empty() { vec![config.run.seed] } else { seeds.to_vec() };
    let output = output(out, config);
    let interrupted = interrupt();
    let devices = open_all(&out.device)?;
    let load = |config: &Config| material(config, &devices);
    let comparison = study::play(rows, &seeds, &load, &output, &bar, &interrupted)?;
    Ok(compared(&comparison, &output.directory, &interrupted))
}

fn compared(comparison: &Comparison, directory: &Path, interrupted: &AtomicBool) -> Answer {
    let text = format!("{}\nreport    {}/report.html\n", comparison.table(), directory.display());
    let mut answer = Answer::new(text, json!({ "directory": directory, "comparison": comparison }));
    if interrupted.load(Ordering::Relaxed) {
        answer.text += "stopped   go on with the same command and --resume\n";
        answer.exit_code = INTERRUPTED;
    }
    answer
}

fn pretrain(args: &PretrainArgs) -> Result<Answer, SimulationError> {
    let mut config = PretrainConfig::load(&args.config.config, &args.config.set)?;
    config.seed = args.config.seed.unwrap_or(config.seed);
    let found = pretraining::run(&config, &args.out, &open(&args.device)?)?;
    let shown = args.out.display();
    let text = format!(
        "trained   {} values on {} images, mean loss {:.4} in the last pass\ntested    accuracy {:.4}\nmodel     {shown}\n\n\
         next      fedlora-sim run CONFIG.toml --set model.path={shown}\n",
        found.parameters, found.examples, found.train_loss, found.test_accuracy
    );
    Ok(Answer::new(text, json!(found)))
}

/// One run's own report anew, or a comparison of several runs.
fn report(args: &ReportArgs) -> Result<Answer, SimulationError> {
    if let ([directory], None) = (args.directories.as_slice(), &args.out) {
        return report_one(directory);
    }
    let directories: Vec<&Path> = args.directories.iter().map(PathBuf::as_path).collect();
    let rows = study::load(&directories)?;
    let directory = args.out.clone().unwrap_or_else(|| free_directory(Path::new("runs/report")));
    let comparison = report::write_comparison(&directory, &rows)?;
    Ok(compared(&comparison, &directory, &AtomicBool::new(false)))
}

fn report_one(directory: &Path) -> Result<Answer, SimulationError> {
    study::load(&[directory])?;
    let record = report::load_run(directory)?;
    report::write_run_report(directory, &record, &record::read_config(directory)?)?;
    Ok(finished_run(&record, directory))
}

fn finished_run(record: &RunRecord, directory: &Path) -> Answer {
    let shown = directory.display();
    let mut text = report::run_table(record);
    let _ = writeln!(text, "\nreport    {shown}/report.html\nadapters  {shown}/adapters/global");
    Answer::new(text, json!({ "directory": directory, "summary": record.summary }))
}

fn methods() -> Answer {
    let mut text = String::new();
    for method in METHODS {
        let paper = if method.arxiv.is_empty() { String::new() } else { format!(" (arXiv {})", method.arxiv) };
        let _ = writeln!(text, "{:<18} {}\n{:<18} {}{paper}", method.name, method.summary, "", method.title);
    }
    let row = |method: &Method| {
        json!({
            "name": method.name,
            "summary": method.summary,
            "title": method.title,
            "arxiv": method.arxiv,
            "reference": method.is_reference,
            "robust": method.is_robust,
        })
    };
    Answer::new(text, json!({ "methods": METHODS.iter().map(row).collect::<Vec<_>>() }))
}

fn quickstart(args: &QuickstartArgs) -> Result<Answer, SimulationError> {
    let config = builtin::quickstart()?;
    let directory = args.out.clone().unwrap_or_else(|| free_directory(Path::new("runs/quickstart")));
    let out = OutArgs { out: Some(directory), resume: args.resume, device: vec![AUTO.to_owned()] };
    let mut answer = play(&study::methods(&config, &group("all"))?, &config, &args.seeds, &out)?;
    if answer.exit_code == 0 {
        answer.text += NEXT;
    }
    Ok(answer)
}

/// What to try after the quickstart.
const NEXT: &str = "
next      fedlora-sim methods                        what each row does, with its paper
          fedlora-sim config show CONFIG.toml        every key with its default
          fedlora-sim compare CONFIG.toml --set model.path=DIR --set data.path=FILE
                                                     the same on your own Hugging Face model and data
";

/// The path, or the first of `path-2`, `path-3`, … that does not exist: a first look should not fail on the second try.
fn free_directory(path: &Path) -> PathBuf {
    let numbered =
        |number: u32| path.with_file_name(format!("{}-{number}", path.file_name().unwrap_or_default().display()));
    let mut candidates = std::iter::once(path.to_owned()).chain((2..).map(numbered));
    // Unwrap safety: the numbers do not end before the directory's entries do.
    candidates.find(|candidate| !candidate.exists()).unwrap_or_else(|| path.to_owned())
}
