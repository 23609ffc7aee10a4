//! `serve`: the coordinator itself.

mod files;
mod pages;

use std::{
    fmt::Display,
    future::Future,
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{Answer, Failure};
use crate::{
    config::{ServeConfig, read_table, set},
    plain::chain,
    serve::serve,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator serve --config deploy/coordinator.toml
  fedlora-coordinator serve --set state-dir=state --set listen=127.0.0.1:8443 --insecure
  FEDLORA_LOG=debug fedlora-coordinator serve --config deploy/coordinator.toml --log-format json";

/// Threads that wait for the disk. By default there would be up to 512, each with a stack and a heap of its own, for one
/// and the same disk.
const BLOCKING: usize = 64;

/// How to serve.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Configuration of the coordinator; without one every key has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a key, for example --set listen=0.0.0.0:8443; without a value, --set KEY= removes it; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How events are written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Which events are written, such as `info` or `fedlora_coordinator=debug`
    #[arg(long, value_name = "FILTER", env = "FEDLORA_LOG", default_value = "info")]
    log_filter: String,
}

/// Forms of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

pub(super) fn run(args: &ServeArgs, insecure: bool) -> Result<Answer, Failure> {
    let config = ServeConfig::from_table(table(args, insecure)?);
    let config = config.map_err(|error| Failure::configuration(chain(&error)))?;
    start_log(args)?;
    files::allow_many();
    pages::keep_small();
    let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(BLOCKING).enable_all().build();
    let runtime = runtime.map_err(|error| cannot("start threads", &error))?;
    let served = runtime.block_on(async { Ok(serve(config, told_to_stop()?).await) })?;
    served.map_err(|error| Failure::files(chain(&error)))?;
    Ok(Answer::said())
}

/// The file with the changes of the command line.
fn table(args: &ServeArgs, insecure: bool) -> Result<toml::Table, Failure> {
    let wrong = |error| Failure::configuration(chain(&error));
    let mut table = toml::Table::new();
    if let Some(path) = &args.config {
        table = read_table(path, &[]).map_err(wrong)?;
    }
    args.set.iter().try_for_each(|text| set(&mut table, text)).map_err(wrong)?;
    if insecure {
        table.insert("insecure".to_owned(), toml::Value::Boolean(true));
    }
    Ok(table)
}

fn start_log(args: &ServeArgs) -> Result<(), Failure> {
    let wrong = |error: &dyn Display| Failure::configuration(format!("--log-filter {:?}: {error}", args.log_filter));
    let filter = EnvFilter::try_new(&args.log_filter).map_err(|error| wrong(&error))?;
    // Colours are for people; a file is read by programs too.
    let log = tracing_subscriber::fmt().with_ansi(io::stderr().is_terminal());
    let log = log.with_env_filter(filter).with_writer(io::stderr);
    let started = match args.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| wrong(&error))
}

/// Ends with the first Ctrl-C or SIGTERM.
fn told_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| cannot("listen to signals", &error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::files(format!("cannot {what}: {error}"))
}
