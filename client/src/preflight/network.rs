//! The way to the coordinator, step by step, and what it says to this client.

use std::{io, sync::Arc, time::Duration};

use fedlora_adapter::Digest;
use fedlora_proto::{
    PROTOCOL_VERSION, digest, digest_bytes,
    federation::{ClientMessage, Hello, Welcome, client_message, server_message::Kind},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{Code, Status};

use super::{Check, local::Rows};
use crate::{
    Dialer, Identity, Server, clock,
    config::JoinConfig,
    tls::{self, Shown},
};

/// Longest wait for each step.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far two clocks may be apart before certificates and logs get confusing.
const CLOCK_SKEW_MS: u64 = 60_000;
/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// First byte of a TLS record that says why there is no connection.
const TLS_ALERT: u8 = 0x15;

pub(super) async fn check(
    config: &JoinConfig,
    identity: &Identity,
    model: Option<Digest>,
    rows: Option<Rows>,
    free: bool,
    checks: &mut Vec<Check>,
) {
    let server = &config.server;
    if step(resolve(server).await, checks).is_none() {
        return;
    }
    let Some(stream) = step(connect(server).await, checks) else { return };
    let shown = Arc::new(Shown::default());
    let dialer = match Dialer::new(server, identity, &shown) {
        Ok(dialer) => dialer,
        Err(error) => return checks.push(Check::failed("identity", error.to_string(), "enrol again")),
    };
    if step(handshake(server, identity, &shown, stream).await, checks).is_none() {
        return;
    }
    let Some(model) = model else { return };
    if !free {
        let found = "not asked, because another process uses the state directory";
        return checks.push(Check::warning("coordinator", found, "stop that process to ask the coordinator too"));
    }
    // As when joining: a site with a budget does not tell its number of examples.
    let examples = if config.privacy.is_some() { 1 } else { rows.as_ref().map_or(0, |rows| rows.examples) };
    if let Some(welcome) = step(greet(&dialer, model, examples).await, checks) {
        judge(&welcome, identity, model, rows.as_ref(), clock::now_ms(), checks);
    }
}

/// Books a step; its value if it worked.
fn step<T>(outcome: Result<(Check, T), Check>, checks: &mut Vec<Check>) -> Option<T> {
    match outcome {
        Ok((check, value)) => {
            checks.push(check);
            Some(value)
        }
        Err(check) => {
            checks.push(check);
            None
        }
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn resolve(server: &Server) -> Result<(Check, ()), Check> {
    const NAME: &str = "host name";
    let next = "check the name in `server`, and this machine's DNS or /etc/hosts";
    let failed = |reason: String| Check::failed(NAME, format!("{} has no address: {reason}", server.host()), next);
    let found = patiently(tokio::net::lookup_host((server.host(), server.port()))).await;
    let found = found.map_err(|error| failed(error.to_string()))?;
    let mut addresses: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(failed("an empty answer".to_owned()));
    }
    Ok((Check::passed(NAME, format!("{} is {}", server.host(), addresses.join(", "))), ()))
}

async fn connect(server: &Server) -> Result<(Check, TcpStream), Check> {
    const NAME: &str = "TCP";
    let port = server.port();
    match patiently(TcpStream::connect((server.host(), port))).await {
        Ok(stream) => Ok((Check::passed(NAME, format!("port {port} answers")), stream)),
        Err(error) => {
            let next = "start the coordinator, or open the way to it (firewall, port)";
            Err(Check::failed(NAME, format!("port {port}: {}", tls::explain(&error, server.host())), next))
        }
    }
}

async fn handshake(
    server: &Server,
    identity: &Identity,
    shown: &Arc<Shown>,
    stream: TcpStream,
) -> Result<(Check, ()), Check> {
    const NAME: &str = "TLS";
    if !server.tls() {
        return clear_text(stream).await;
    }
    let failed = |found: String| Check::failed(NAME, found, "correct that, then run preflight again");
    let ca_pem = identity.ca_pem.as_deref().unwrap_or_default();
    let config = tls::client_config(ca_pem, Arc::clone(shown)).map_err(|error| failed(error.to_string()))?;
    let name = ServerName::try_from(server.host().to_owned()).map_err(|error| failed(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(config));
    match patiently(connector.connect(name, stream)).await {
        Ok(_) => Ok((Check::passed(NAME, "the coordinator is who it should be"), ())),
        Err(error) => Err(failed(tls::explain(&error, server.host()))),
    }
}

/// Whether the other side takes clear text: one that wants TLS answers HTTP/2 with an alert, or hangs up.
async fn clear_text(mut stream: TcpStream) -> Result<(Check, ()), Check> {
    const NAME: &str = "clear text";
    let mut first = [0];
    let answer = patiently(async {
        stream.write_all(PREFACE).await?;
        stream.read_exact(&mut first).await
    });
    match answer.await {
        Ok(_) if first[0] != TLS_ALERT => Ok((Check::passed(NAME, "the coordinator speaks HTTP/2"), ())),
        Ok(_) => {
            let found = "the coordinator wants TLS on this port";
            Err(Check::failed(NAME, found, "write https:// in `server` and drop `insecure`"))
        }
        Err(error) => {
            let found = format!("no answer in clear text: {error}");
            Err(Check::failed(NAME, found, "if the coordinator uses TLS, write https:// and drop `insecure`"))
        }
    }
}

/// Opens a session and leaves it when the coordinator has said welcome.
async fn greet(dialer: &Dialer, model: Digest, examples: u64) -> Result<(Check, Welcome), Check> {
    const NAME: &str = "coordinator";
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        base_model: digest_bytes(model),
        examples,
    };
    let hello = ClientMessage { kind: Some(client_message::Kind::Hello(hello)) };
    let greeting = async {
        // The stream stays open until the answer is here.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let _ = sender.try_send(hello);
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut incoming = dialer.federation().participate(dialer.request(outgoing)).await?.into_inner();
        let first = incoming.message().await?.and_then(|message| message.kind);
        drop(sender);
        match first {
            Some(Kind::Welcome(welcome)) => Ok(welcome),
            _ => Err(Status::internal("it did not say welcome")),
        }
    };
    let outcome = timeout(PATIENCE, greeting).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
    match outcome {
        Ok(welcome) => Ok((Check::passed(NAME, format!("protocol {PROTOCOL_VERSION} is spoken")), welcome)),
        Err(status) => Err(Check::failed(NAME, dialer.unreachable(&status).to_string(), next_step(status.code()))),
    }
}

fn next_step(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => "enrol with a new token, or check that `identity` is the right folder",
        Code::PermissionDenied => "ask the operator whether this client was revoked",
        Code::FailedPrecondition => "use the software version and the base model that the operator uses",
        Code::Unimplemented => "this is no coordinator: check host and port in `server`",
        _ => "look at the coordinator's log",
    }
}

/// What a welcome says about this client.
fn judge(
    welcome: &Welcome,
    identity: &Identity,
    model: Digest,
    rows: Option<&Rows>,
    now_ms: u64,
    checks: &mut Vec<Check>,
) {
    checks.push(clocks(now_ms, welcome.server_time_ms));
    if welcome.client_id != identity.named.client_id {
        let (found, expected) = (welcome.client_id, identity.named.client_id);
        let words = format!("the coordinator knows this client as {found}, its identity says {expected}");
        checks.push(Check::failed("client number", words, "enrol again: the folder belongs to another coordinator"));
    }
    let Some(run) = &welcome.run else {
        checks.push(Check::passed("run", "none is live yet"));
        return;
    };
    match digest("run.base_model", &run.base_model) {
        Ok(expected) if expected == model => checks.push(Check::passed("run", format!("{} fits the model", run.name))),
        Ok(expected) => {
            let found = format!("{} needs the base model {expected}, this client has {model}", run.name);
            let next = "use the same download, and the same pooling, as the operator's fedlora-client describe";
            checks.push(Check::failed("run", found, next));
        }
        Err(error) => checks.push(Check::failed("run", error.to_string(), "look at the coordinator's version")),
    }
    // A language model has no labels, and whether it is the run's model was looked at above.
    checks.extend(rows.filter(|rows| !rows.labels.is_empty()).map(|rows| labels(&rows.labels, &run.labels)));
}

fn clocks(now_ms: u64, server_ms: u64) -> Check {
    let skew_s = now_ms.abs_diff(server_ms) / 1000;
    if now_ms.abs_diff(server_ms) <= CLOCK_SKEW_MS {
        return Check::passed("clock", format!("{skew_s} s from the coordinator's"));
    }
    let direction = if now_ms > server_ms { "ahead of" } else { "behind" };
    let found = format!("this machine's clock is {skew_s} s {direction} the coordinator's");
    Check::warning("clock", found, "set the wrong one right: certificates are valid by the clock")
}

fn labels(own: &[String], run: &[String]) -> Check {
    match own.iter().find(|label| !run.contains(label)) {
        None => Check::passed("labels", "the run has every label of the data"),
        Some(label) => {
            let found = format!("the run has no label `{label}`; its labels are {}", run.join(", "));
            Check::failed("labels", found, "name the labels as the run does, or leave those rows out")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn a_clock_that_is_off_by_a_day_is_told_with_its_direction() {
        let day = 86_400_000;
        assert_eq!(clocks(10 * day, 10 * day + 59_000).outcome, Outcome::Passed);
        let check = clocks(11 * day, 10 * day);
        assert_eq!(check.outcome, Outcome::Warning);
        assert_eq!(check.found, "this machine's clock is 86400 s ahead of the coordinator's");
        assert!(clocks(9 * day, 10 * day).found.contains("behind"));
    }

    #[test]
    fn a_label_that_the_run_lacks_is_named() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(labels(&names(&["0"]), &names(&["0", "1"])).outcome, Outcome::Passed);
        let check = labels(&names(&["0", "2"]), &names(&["0", "1"]));
        assert_eq!(check.found, "the run has no label `2`; its labels are 0, 1");
    }
}
