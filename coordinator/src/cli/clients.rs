//! `clients`: who is enrolled, and taking it back.

use clap::{Args, Subcommand};
use fedlora_proto::operator::{ClientRequest, ClientSummary, ListClientsRequest};
use serde_json::json;
use tonic::{Response, Status};

use super::{
    Answer, Failure,
    connect::Operator,
    json,
    table::{Table, pairs},
    words,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator clients list
  fedlora-coordinator clients drain hospital-a
  fedlora-coordinator clients revoke 3";

/// Clients.
#[derive(Debug, Subcommand)]
pub(super) enum ClientsCommand {
    /// List all that ever enrolled
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  fedlora-coordinator clients list
  fedlora-coordinator clients ls --format json"
    )]
    List,
    /// Show one client
    #[command(after_help = "Examples:\n  fedlora-coordinator clients show hospital-a")]
    Show(Who),
    /// Take a client's right to connect away, for good; its open streams are closed
    #[command(after_help = "Examples:\n  fedlora-coordinator clients revoke hospital-a")]
    Revoke(Who),
    /// Invite a client to no further round; what it is doing still counts
    #[command(after_help = "Examples:\n  fedlora-coordinator clients drain hospital-a")]
    Drain(Who),
}

/// One client.
#[derive(Debug, Args)]
pub(super) struct Who {
    /// Its number or its name
    #[arg(value_name = "CLIENT")]
    client: String,
}

impl Who {
    fn request(&self) -> ClientRequest {
        match self.client.parse() {
            Ok(number) => ClientRequest { client_id: Some(number), name: String::new() },
            Err(_) => ClientRequest { client_id: None, name: self.client.clone() },
        }
    }
}

pub(super) async fn run(command: &ClientsCommand, operator: &mut Operator) -> Result<Answer, Failure> {
    match command {
        ClientsCommand::List => list(operator).await,
        ClientsCommand::Show(who) => one(operator.show_client(who.request()).await, None),
        ClientsCommand::Revoke(who) => one(operator.revoke_client(who.request()).await, Some("can no longer connect")),
        ClientsCommand::Drain(who) => {
            one(operator.drain_client(who.request()).await, Some("is invited to no further round"))
        }
    }
}

async fn list(operator: &mut Operator) -> Result<Answer, Failure> {
    let answer = operator.list_clients(ListClientsRequest {}).await.map_err(|status| Failure::of(&status))?;
    let clients = answer.into_inner().clients;
    let header = ["client", "name", "institution", "role", "state", "rounds", "last seen", "certificate until"];
    let mut table = Table::new(&header);
    for client in &clients {
        table.row([
            client.client_id.to_string(),
            client.name.clone(),
            client.institution.clone(),
            client.role.clone(),
            client.state.clone(),
            client.rounds_accepted.to_string(),
            words::time(client.last_seen_ms),
            words::time(client.certificate_not_after_ms),
        ]);
    }
    let text = table.text("nobody is enrolled yet; `tokens create` begins that");
    Ok(Answer::new(text, json!({ "clients": clients.iter().map(json::client).collect::<Vec<_>>() })))
}

fn one(answer: Result<Response<ClientSummary>, Status>, what: Option<&str>) -> Result<Answer, Failure> {
    let client = answer.map_err(|status| Failure::of(&status))?.into_inner();
    let data = json!({ "client": json::client(&client) });
    let about = pairs([
        ("client", client.client_id.to_string()),
        ("name", client.name.clone()),
        ("institution", client.institution),
        ("role", client.role),
        ("state", client.state),
        ("enrolled", words::time(client.enrolled_ms)),
        ("last seen", words::time(client.last_seen_ms)),
        ("certificate", format!("until {}", words::time(client.certificate_not_after_ms))),
        ("key", client.fingerprint),
        ("rounds", format!("{} with an accepted update", client.rounds_accepted)),
    ]);
    let text = what.map_or(about.clone(), |what| format!("{} {what}\n\n{about}", client.name));
    Ok(Answer::new(text, data))
}
