//! `tokens`: one-time secrets with which clients enrol.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use fedlora_proto::operator::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, TokenSummary};
use serde_json::json;

use super::{
    Answer, Failure,
    connect::Operator,
    json,
    table::{Table, pairs},
    words,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator tokens create --name hospital-a --out hospital-a.token
  fedlora-coordinator tokens list
  fedlora-coordinator tokens revoke 5f0c2a7e";

/// Tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokensCommand {
    /// Make a token with which one client can enrol once
    ///
    /// The secret is shown once, or written to --out, a file that only you can read. Hand it to the institution on a
    /// way that you trust; `fedlora-client enroll --token-file FILE` uses it up.
    #[command(after_help = "\
Examples:
  fedlora-coordinator tokens create --name hospital-a --out hospital-a.token
  fedlora-coordinator tokens create --name audit --role auditor --ttl 1h")]
    Create(CreateArgs),
    /// List tokens without their secrets
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  fedlora-coordinator tokens list
  fedlora-coordinator tokens ls --format json"
    )]
    List,
    /// Make a token useless
    #[command(after_help = "Examples:\n  fedlora-coordinator tokens revoke 5f0c2a7e")]
    Revoke(RevokeArgs),
}

/// A token to be.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Name of the client-to-be
    #[arg(long)]
    name: String,
    /// Institution that it belongs to [default: its name]
    #[arg(long)]
    institution: Option<String>,
    /// What it may do
    #[arg(long, value_enum, default_value_t = RoleArg::Client)]
    role: RoleArg,
    /// How long the token can be used
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = words::parse_duration)]
    ttl: u64,
    /// The client's number [default: the next free one]
    #[arg(long, value_name = "NUMBER")]
    client_id: Option<u64>,
    /// Write the secret to this new file instead of showing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// Takes part in rounds
    Client,
    /// Looks at everything and changes everything
    Operator,
    /// Looks at everything
    Auditor,
}

/// A token that is.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Its public identifier, as `tokens list` shows it
    #[arg(value_name = "TOKEN")]
    token: String,
}

pub(super) async fn run(command: &TokensCommand, operator: &mut Operator) -> Result<Answer, Failure> {
    match command {
        TokensCommand::Create(args) => create(args, operator).await,
        TokensCommand::List => list(operator).await,
        TokensCommand::Revoke(args) => {
            let request = RevokeTokenRequest { token_id: args.token.clone() };
            let token = operator.revoke_token(request).await.map_err(|status| Failure::of(&status))?.into_inner();
            let text = format!("the token {} for {} can no longer be used", token.token_id, token.name);
            Ok(Answer::new(text, json!({ "token": json::token(&token) })))
        }
    }
}

async fn create(args: &CreateArgs, operator: &mut Operator) -> Result<Answer, Failure> {
    // Before the token exists: a secret that cannot be kept should not be made.
    let file = args.out.as_deref().map(new_secret_file).transpose()?;
    let request = CreateTokenRequest {
        name: args.name.clone(),
        institution: args.institution.clone().unwrap_or_default(),
        role: args.role.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default(),
        ttl_ms: args.ttl,
        client_id: args.client_id,
    };
    let answer = operator.create_token(request).await.map_err(|status| {
        // The empty file would be in the way of the next attempt; that it stays adds nothing to the failure.
        args.out.as_deref().map(fs::remove_file);
        Failure::of(&status)
    })?;
    let answer = answer.into_inner();
    if let (Some(mut file), Some(path)) = (file, &args.out) {
        let written = writeln!(file, "{}", answer.token).and_then(|()| file.sync_all());
        written.map_err(|error| Failure::file("write", path, &error))?;
    }
    Ok(created(&answer.summary.unwrap_or_default(), &answer.token, args.out.as_deref()))
}

/// A file that was not there before and that only its owner can read.
fn new_secret_file(path: &Path) -> Result<fs::File, Failure> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| Failure::file("create", path, &error))
}

fn created(token: &TokenSummary, secret: &str, out: Option<&Path>) -> Answer {
    let file = out.map_or("FILE".to_owned(), |path| path.display().to_string());
    let text = pairs([
        ("token", out.map_or(secret.to_owned(), |path| format!("in {}", path.display()))),
        ("id", token.token_id.clone()),
        ("for", format!("the {} {} of {}", token.role, token.name, token.institution)),
        ("until", words::time(token.expires_ms)),
        ("next", format!("fedlora-client enroll --server URL --token-file {file} --identity DIR --ca ca.pem")),
    ]);
    let shown = out.is_none().then_some(secret);
    Answer::new(text, json!({ "token": json::token(token), "secret": shown, "file": out }))
}

async fn list(operator: &mut Operator) -> Result<Answer, Failure> {
    let answer = operator.list_tokens(ListTokensRequest {}).await.map_err(|status| Failure::of(&status))?;
    let tokens = answer.into_inner().tokens;
    let mut table = Table::new(&["token", "name", "institution", "role", "state", "created", "until"]);
    for token in &tokens {
        table.row([
            token.token_id.clone(),
            token.name.clone(),
            token.institution.clone(),
            token.role.clone(),
            token.state.clone(),
            words::time(token.created_ms),
            words::time(token.expires_ms),
        ]);
    }
    let text = table.text("no tokens yet; `tokens create` makes one");
    Ok(Answer::new(text, json!({ "tokens": tokens.iter().map(json::token).collect::<Vec<_>>() })))
}
