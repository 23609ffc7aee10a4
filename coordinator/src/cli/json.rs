//! Messages of the operator's service as JSON: their own field names, times in ms since the Unix epoch, and null where
//! a value is absent.

use fedlora_proto::operator::{
    Checkpoint, ClientSummary, Event, RoundClient, RoundDetail, RoundMetrics, RoundSummary, RunPrivacy, RunSummary,
    StatusResponse, TokenSummary,
};
use serde_json::{Value, json};

pub(super) fn status(status: &StatusResponse) -> Value {
    json!({
        "software_version": status.software_version,
        "started_ms": status.started_ms,
        "run": status.run.as_ref().map(run),
        "round": status.round.as_ref().map(round),
        "clients_enrolled": status.clients_enrolled,
        "clients_connected": status.clients_connected,
        "disk_free_bytes": status.disk_free_bytes,
    })
}

pub(super) fn run(run: &RunSummary) -> Value {
    json!({
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "method": run.method,
        "rounds_done": run.rounds_done,
        "num_rounds": run.num_rounds,
        "created_ms": run.created_ms,
        "finished_ms": some(run.finished_ms),
        "reason": run.reason,
        "privacy": run.privacy.as_ref().map(privacy),
    })
}

fn privacy(privacy: &RunPrivacy) -> Value {
    let given = |value: f64| (value > 0.0).then_some(value);
    json!({
        "unit": privacy.unit,
        "delta": privacy.delta,
        "epsilon_pld": privacy.epsilon_pld,
        "epsilon_rdp": privacy.epsilon_rdp,
        "target_epsilon": given(privacy.target_epsilon),
        "noise_multiplier": given(privacy.noise_multiplier),
        "clipping_norm": privacy.clipping_norm,
        "is_simulated": privacy.is_simulated,
    })
}

pub(super) fn round(round: &RoundSummary) -> Value {
    json!({
        "run_id": round.run_id,
        "round": round.round,
        "phase": round.phase,
        "invited": round.invited,
        "accepted": round.accepted,
        "rejected": round.rejected,
        "late": round.late,
        "dropped": round.dropped,
        "opened_ms": round.opened_ms,
        "ended_ms": some(round.ended_ms),
        "deadline_ms": some(round.deadline_ms),
        "train_loss": round.train_loss,
        "adapter": round.adapter,
    })
}

pub(super) fn detail(detail: &RoundDetail) -> Value {
    let mut value = detail.summary.as_ref().map_or(json!({}), round);
    value["clients"] = detail.clients.iter().map(round_client).collect();
    value
}

fn round_client(client: &RoundClient) -> Value {
    json!({
        "client_id": client.client_id,
        "name": client.name,
        "state": client.state,
        "examples": client.examples,
        "steps": client.steps,
        "train_loss": client.train_loss,
        "digest": client.digest,
        "reason": client.reason,
    })
}

pub(super) fn client(client: &ClientSummary) -> Value {
    json!({
        "client_id": client.client_id,
        "name": client.name,
        "institution": client.institution,
        "role": client.role,
        "state": client.state,
        "enrolled_ms": client.enrolled_ms,
        "last_seen_ms": some(client.last_seen_ms),
        "certificate_not_after_ms": client.certificate_not_after_ms,
        "fingerprint": client.fingerprint,
        "rounds_accepted": client.rounds_accepted,
    })
}

pub(super) fn token(token: &TokenSummary) -> Value {
    json!({
        "token_id": token.token_id,
        "name": token.name,
        "institution": token.institution,
        "role": token.role,
        "created_ms": token.created_ms,
        "expires_ms": token.expires_ms,
        "state": token.state,
    })
}

pub(super) fn event(event: &Event) -> Value {
    json!({
        "number": event.number,
        "time_ms": event.time_ms,
        "run_id": some(event.run_id),
        "round": some(event.round),
        "client_id": event.client_id,
        "kind": event.kind,
        "detail": event.detail,
    })
}

pub(super) fn metrics(metrics: &RoundMetrics) -> Value {
    let mut value = metrics.summary.as_ref().map_or(json!({}), round);
    value["update_norm"] = json!(metrics.update_norm);
    value["aggregation_residual"] = json!(metrics.aggregation_residual);
    value["bytes_up"] = json!(metrics.bytes_up);
    value["bytes_down"] = json!(metrics.bytes_down);
    value["duration_ms"] = json!(metrics.duration_ms);
    value["aggregation_ms"] = json!(metrics.aggregation_ms);
    value
}

pub(super) fn checkpoint(checkpoint: &Checkpoint) -> Value {
    json!({
        "run_id": checkpoint.run_id,
        "round": checkpoint.round,
        "blob": checkpoint.blob,
        "size_bytes": checkpoint.size_bytes,
        "time_ms": checkpoint.time_ms,
    })
}

/// Fields for which 0 means none.
fn some(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}
