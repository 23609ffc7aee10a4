//! The privacy ledgers of a site, for those who answer for its data.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use fedlora_privacy::{Fingerprint, Ledger, LedgerEntry, LedgerError, LedgerSummary, PldAccountant, PrivacyUnit};
use serde_json::{Value, json};

use super::{Answer, CliError, ConfigArgs};
use crate::{
    Budget,
    config::{ConfigError, JoinConfig},
};

/// Exit code of a ledger whose claim does not hold.
const CLAIM_FAILS: u8 = 4;

/// What to do with ledgers.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Say what is spent and what is left, for each data set
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// List every reservation as well
        #[arg(long)]
        entries: bool,
    },
    /// Check every line of every ledger and compute what is spent anew
    Verify(ConfigArgs),
    /// Raise the limit of one ledger: a decision of the site, written down with a name
    Raise {
        #[command(flatten)]
        config: ConfigArgs,
        /// The data set, as `ledger show` names it
        #[arg(long)]
        data: Fingerprint,
        /// The new limit on epsilon
        #[arg(long, value_name = "EPSILON")]
        limit: f64,
        /// Who decided
        #[arg(long, value_name = "NAME")]
        operator: String,
    },
}

pub(super) fn run(command: &LedgerCommand) -> Result<Answer, CliError> {
    match command {
        LedgerCommand::Show { config, entries } => show(&folder(config)?, *entries),
        LedgerCommand::Verify(config) => verify(&folder(config)?),
        LedgerCommand::Raise { config, data, limit, operator } => {
            let path = folder(config)?.join(format!("{data}.jsonl"));
            let mut ledger = Ledger::open(&path, *data)?;
            ledger.raise_limit(*limit, operator)?;
            let text = format!("the limit of {data} is {limit} now; put it into the site's file as epsilon-limit too");
            Ok(Answer::new(text, json!({ "data": data.to_string(), "limit": limit })))
        }
    }
}

/// Where the configuration's ledgers are.
fn folder(args: &ConfigArgs) -> Result<PathBuf, CliError> {
    let config = JoinConfig::load(&args.config, &args.set)?;
    let Some(privacy) = &config.privacy else {
        let reason = "is missing: a site without epsilon-limit and delta has no ledgers";
        return Err(ConfigError::invalid("privacy", reason).into());
    };
    Ok(Budget::new(privacy, &config.state_dir).folder().to_owned())
}

/// The ledgers of a folder, by name; none where nothing was ever trained privately.
fn ledgers(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let unreadable = |source| CliError::Ledger(LedgerError::Io { path: folder.to_owned(), source });
    if !folder.try_exists().map_err(unreadable)? {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    Ok(paths)
}

fn show(folder: &Path, entries: bool) -> Result<Answer, CliError> {
    let (mut text, mut rows) = (String::new(), Vec::new());
    for path in ledgers(folder)? {
        let view = Ledger::read(&path)?;
        let summary = view.summary(&PldAccountant::new()).map_err(LedgerError::from)?;
        describe(&mut text, &path, &summary);
        let reserved = view.entries().iter().filter_map(reservation);
        let mut row = row(&path, &summary);
        if entries {
            reserved.clone().for_each(|(line, _)| text += &line);
            row["reservations_made"] = reserved.map(|(_, value)| value).collect();
        }
        rows.push(row);
    }
    if rows.is_empty() {
        let _ = writeln!(text, "no ledgers in {}: nothing has been trained privately", folder.display());
    }
    Ok(Answer::new(text, json!({ "ledgers": rows })))
}

fn describe(text: &mut String, path: &Path, summary: &LedgerSummary) {
    let LedgerSummary { terms, limit, spent, remaining, reservations, commits, steps, protected } = summary;
    let protected = if *protected { "" } else { " (part of it without protection of the last bits)" };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "data set    {}\nprotects    each {} of {}\nspent       epsilon {spent:.4} of {limit}, {remaining:.4} \
         left, at delta {:e}{protected}\nrounds      {reservations} charged, {commits} finished, {steps} steps\n\
         file        {}\n\n",
        terms.data,
        unit(terms.unit),
        terms.units,
        terms.delta,
        path.display()
    );
}

fn unit(unit: PrivacyUnit) -> &'static str {
    match unit {
        PrivacyUnit::Example => "example",
        PrivacyUnit::User => "user",
        PrivacyUnit::Client => "client",
    }
}

fn row(path: &Path, summary: &LedgerSummary) -> Value {
    json!({
        "path": path,
        "data": summary.terms.data.to_string(),
        "unit": summary.terms.unit,
        "units": summary.terms.units,
        "delta": summary.terms.delta,
        "limit": summary.limit,
        "epsilon": summary.spent,
        "remaining": summary.remaining,
        "reservations": summary.reservations,
        "commits": summary.commits,
        "steps": summary.steps,
        "protected": summary.protected,
    })
}

/// A reservation in one line, and as data.
fn reservation(entry: &LedgerEntry) -> Option<(String, Value)> {
    let LedgerEntry::Reserve { release, epsilon, .. } = entry else { return None };
    let (event, run, round) = (&release.event, &release.run, release.round);
    let (noise, rate, steps) = (event.noise_multiplier(), event.sample_rate(), event.steps());
    let line = format!(
        "  {run} round {round}: noise {noise:.4}, sample rate {rate:.5}, {steps} steps, epsilon {epsilon:.4} so far\n"
    );
    Some((line, json!({ "release": release, "epsilon": epsilon })))
}

fn verify(folder: &Path) -> Result<Answer, CliError> {
    let (mut text, mut rows, mut exit_code) = (String::new(), Vec::new(), 0);
    for path in ledgers(folder)? {
        let view = Ledger::read(&path)?;
        let found = view.verify(&PldAccountant::new()).map_err(LedgerError::from)?;
        let word = if found.holds() { "holds" } else { "DOES NOT HOLD" };
        if !found.holds() {
            exit_code = CLAIM_FAILS;
        }
        let (recorded, recomputed, shown) = (found.recorded, found.recomputed, path.display());
        let lines = view.head().lines;
        let _ = writeln!(text, "{shown}: {lines} lines, epsilon {recorded:.6} {word}, computed anew {recomputed:.6}");
        rows.push(json!({ "path": path, "lines": lines, "recorded": recorded, "recomputed": recomputed,
                          "holds": found.holds() }));
    }
    if rows.is_empty() {
        let _ = writeln!(text, "no ledgers in {}: nothing has been trained privately", folder.display());
    }
    Ok(Answer { exit_code, ..Answer::new(text, json!({ "ledgers": rows })) })
}
