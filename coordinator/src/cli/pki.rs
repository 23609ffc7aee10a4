//! `pki`: the coordinator's own certificate authority, and the first way in.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Answer, Failure, clock, table::pairs};
use crate::{Registry, Role, identity::pki::init_pki, plain::chain};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator pki init --dir state --host coordinator.example.org";

/// The certificate authority.
#[derive(Debug, Subcommand)]
pub(super) enum PkiCommand {
    /// Make the authority, the coordinator's certificate and the first operator's identity
    ///
    /// Writes DIR/pki (ca.pem is what clients trust; the keys never leave this machine), and DIR/operator with the
    /// identity of an operator, for --identity. Nothing that exists is overwritten. Further operators enrol like
    /// clients: tokens create --role operator.
    #[command(after_help = "\
Examples:
  fedlora-coordinator pki init --dir state --host localhost
  fedlora-coordinator pki init --dir /var/lib/fedlora-coordinator --host coordinator.example.org --host 10.0.0.5")]
    Init(InitArgs),
}

/// Where, and for which names.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// State directory of the coordinator: `state-dir` of its configuration
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Host name or address by which clients reach the coordinator; can be repeated
    #[arg(long, value_name = "NAME", required = true, num_args = 1..)]
    host: Vec<String>,
    /// Name of the first operator
    #[arg(long, value_name = "NAME", default_value = "operator")]
    operator: String,
}

pub(super) fn run(command: &PkiCommand) -> Result<Answer, Failure> {
    let PkiCommand::Init(args) = command;
    let (pki, operator) = (args.dir.join("pki"), args.dir.join("operator"));
    let failed = |error: &dyn std::error::Error| Failure::files(chain(error));
    init_pki(&pki, &args.host, clock::now()).map_err(|error| failed(&error))?;
    let registry = Registry::open(&args.dir).map_err(|error| failed(&error))?;
    let issued = registry.issue_identity(&operator, &args.operator, Role::Operator, clock::now());
    issued.map_err(|error| failed(&error))?;
    let ca = pki.join("ca.pem");
    let text = pairs([
        ("authority", format!("{}: give it to every client", ca.display())),
        ("coordinator", format!("certificate for {}", args.host.join(", "))),
        ("operator", format!("{}: keep it to yourself", operator.display())),
        ("next", format!("fedlora-coordinator serve --set state-dir={}", args.dir.display())),
        ("then", format!("fedlora-coordinator status --identity {}", operator.display())),
    ]);
    Ok(Answer::new(text, json!({ "ca": ca, "operator": operator, "hosts": args.host })))
}
