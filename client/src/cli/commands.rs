//! What each command does.

use std::{fs, io, path::Path};

use clap::CommandFactory;
use serde_json::json;
use tokio::runtime::Builder;

use super::{
    Answer, Cli, CliError, Command, CompletionsArgs, ConfigArgs, EnrollArgs, ManArgs, devices, join, ledger, local,
};
use crate::{
    Dialer, Server,
    config::JoinConfig,
    files::FileError,
    identity::{self, IdentityError},
    preflight::{self, Outcome},
};

const NAME: &str = "fedlora-client";

pub(super) fn run(command: Command) -> Result<Answer, CliError> {
    match command {
        Command::Enroll(args) => enroll(&args),
        Command::Join(args) => join::join(&args),
        Command::Preflight(args) => check(&args),
        Command::Describe(args) => local::describe(&args),
        Command::TrainLocal(args) => local::train(&args),
        Command::Evaluate(args) => local::evaluate(&args),
        Command::Ledger(command) => ledger::run(&command),
        Command::Devices => Ok(devices::list()),
        Command::Completions(args) => Ok(completions(&args)),
        Command::Man(args) => man(&args),
    }
}

fn enroll(args: &EnrollArgs) -> Result<Answer, CliError> {
    let server: Server = args.server.parse()?;
    server.check(args.insecure)?;
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source });
    let ca_pem = args.ca.as_deref().map(read).transpose()?;
    let token = identity::read_token(&args.token_file)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let dialer = Dialer::anonymous(&server, ca_pem.as_deref())?;
    let enrolment = runtime.block_on(identity::enrol(&dialer, &token, &args.identity, ca_pem.as_deref()))?;
    let (name, number) = (&enrolment.named.name, enrolment.named.client_id);
    let folder = args.identity.display();
    let text = format!(
        "enrolled   {name} (client {number})\nidentity   {folder}\nnext       fedlora-client preflight --config FILE"
    );
    let data = json!({
        "client_id": number,
        "name": name,
        "identity": args.identity,
        "not_after_ms": enrolment.not_after_ms,
    });
    Ok(Answer::new(text, data))
}

fn check(args: &ConfigArgs) -> Result<Answer, CliError> {
    let config = JoinConfig::load(&args.config, &args.set)?;
    let checks = preflight::run(&config);
    let failed = checks.iter().find(|check| check.outcome == Outcome::Failed);
    let mut text = preflight::to_text(&checks);
    text += if failed.is_none() { "ready to join" } else { "not ready to join" };
    let exit_code = failed.map_or(0, |check| match check.name {
        "device" => 2,
        "data" | "model" => 3,
        "identity" | "certificate" | "state-dir" => 5,
        _ => 4,
    });
    let data = json!({ "ready": failed.is_none(), "checks": checks });
    Ok(Answer { exit_code, ..Answer::new(text, data) })
}

fn completions(args: &CompletionsArgs) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    Answer::new(script.clone(), json!({ "script": script }))
}

/// One page on standard output, or the pages of all commands in a folder.
fn man(args: &ManArgs) -> Result<Answer, CliError> {
    let command = Cli::command();
    let Some(folder) = &args.out else {
        let page = page(&command).map_err(CliError::Output)?;
        return Ok(Answer::new(page.clone(), json!({ "page": page })));
    };
    let failed = |source| FileError::new(folder, source);
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(Answer::new(format!("manual     {}", folder.display()), json!({ "folder": folder })))
}

fn page(command: &clap::Command) -> io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
