//! `status`: the coordinator at a glance.

use fedlora_proto::operator::{RoundSummary, RunPrivacy, RunSummary, StatusRequest, StatusResponse};

use super::{Answer, Failure, connect::Operator, json, table::pairs, words};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator status
  fedlora-coordinator status --server https://coordinator.example.org:8443 --format json";

pub(super) async fn run(operator: &mut Operator) -> Result<Answer, Failure> {
    let status = ask(operator).await?;
    Ok(Answer::new(text(&status), json::status(&status)))
}

/// The coordinator's own words.
pub(super) async fn ask(operator: &mut Operator) -> Result<StatusResponse, Failure> {
    let answer = operator.status(StatusRequest {}).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Failure::of(&status))
}

fn text(status: &StatusResponse) -> String {
    let version = &status.software_version;
    let (started, free) = (words::time(status.started_ms), words::bytes(status.disk_free_bytes));
    let privacy = status.run.as_ref().and_then(|run| run.privacy.as_ref());
    pairs([
        ("coordinator", format!("version {version}, since {started}, {free} free")),
        ("clients", format!("{} enrolled, {} connected", status.clients_enrolled, status.clients_connected)),
        ("run", status.run.as_ref().map_or("none yet; `run start` begins one".to_owned(), run_line)),
        ("round", status.round.as_ref().map_or("none yet".to_owned(), round_line)),
        ("privacy", privacy.map(privacy_line).unwrap_or_default()),
    ])
}

/// Differential privacy in one line.
fn privacy_line(privacy: &RunPrivacy) -> String {
    let RunPrivacy { unit, delta, target_epsilon, .. } = privacy;
    let target = if *target_epsilon > 0.0 { format!(", planned for {target_epsilon}") } else { String::new() };
    let simulated = if privacy.is_simulated { "; simulated noise, which protects nobody" } else { "" };
    match (privacy.epsilon_pld, privacy.epsilon_rdp) {
        (Some(pld), Some(rdp)) => {
            format!("epsilon {pld:.3} (RDP {rdp:.3}) at delta {delta:e} for each {unit}{target}{simulated}")
        }
        _ => {
            format!("each {unit}, by noise of the clients at delta {delta:e}{target}; their ledgers know what is spent")
        }
    }
}

/// A run in one line.
pub(super) fn run_line(run: &RunSummary) -> String {
    let RunSummary { run_id, name, status, method, rounds_done, num_rounds, .. } = run;
    let reason = if run.reason.is_empty() { String::new() } else { format!(": {}", run.reason) };
    format!("{run_id} {name}, {method}: {status} after {rounds_done} of {num_rounds} rounds{reason}")
}

/// A round in one line.
fn round_line(round: &RoundSummary) -> String {
    let RoundSummary { round: number, phase, accepted, invited, rejected, late, dropped, .. } = round;
    let counts = format!("{accepted} of {invited} accepted, {rejected} rejected, {late} late, {dropped} gone");
    let is_timed = round.ended_ms == 0 && round.deadline_ms != 0;
    let deadline = if is_timed { format!("; closes at {}", words::time(round.deadline_ms)) } else { String::new() };
    format!("{number} {phase}: {counts}{deadline}")
}
