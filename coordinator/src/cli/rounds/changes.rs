//! What happened in a round between two looks at it, one line each.

use fedlora_proto::operator::{RoundClient, RoundDetail, RoundSummary};

use super::{name, number};
use crate::cli::{table::printable, words};

/// Lines about what is new.
pub(super) fn changes(before: Option<&RoundDetail>, now: &RoundDetail) -> Vec<String> {
    let before = before.filter(|before| number(before) == number(now));
    let round = number(now);
    let was = |client: &RoundClient| {
        let same = |other: &&RoundClient| other.client_id == client.client_id;
        before.and_then(|before| before.clients.iter().find(same)).map(|client| client.state.as_str())
    };
    let summary = now.summary.clone().unwrap_or_default();
    let phase_before = before.and_then(|before| before.summary.as_ref()).map(|summary| summary.phase.as_str());
    let mut lines = Vec::new();
    if before.is_none() {
        lines.push(format!("round {round} opened: {} invited", summary.invited));
    }
    for client in &now.clients {
        let state_before = was(client).unwrap_or("waiting");
        if client.state != state_before {
            lines.push(format!("round {round}: {}", client_line(client)));
        }
    }
    if phase_before.unwrap_or("collecting") != summary.phase {
        lines.push(phase_line(&summary));
    }
    lines.iter().map(|line| printable(line)).collect()
}

/// A client in one line.
pub(super) fn client_line(client: &RoundClient) -> String {
    let (name, state) = (name(client), &client.state);
    match state.as_str() {
        "accepted" => {
            let loss = client.train_loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
            format!("{name} accepted ({} examples{loss})", client.examples)
        }
        "rejected" => format!("{name} rejected: {}", client.reason),
        "training" if client.steps > 0 => format!("{name} training, {} steps", client.steps),
        _ => format!("{name} {state}"),
    }
}

/// A round's phase in one line.
pub(super) fn phase_line(round: &RoundSummary) -> String {
    let RoundSummary { round: number, phase, accepted, invited, .. } = round;
    let loss = round.train_loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
    let adapter =
        if round.adapter.is_empty() { String::new() } else { format!(", adapter {}", words::digest(&round.adapter)) };
    format!("round {number} {phase}: {accepted} of {invited} accepted{loss}{adapter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(round: u64, phase: &str, states: [&str; 2]) -> RoundDetail {
        let accepted = states.iter().filter(|&&state| state == "accepted").count() as u64;
        let summary = RoundSummary { round, phase: phase.to_owned(), invited: 2, accepted, ..Default::default() };
        let client = |(index, state): (usize, &&str)| RoundClient {
            client_id: index as u64,
            name: format!("site-{index}"),
            state: (*state).to_owned(),
            ..Default::default()
        };
        RoundDetail { summary: Some(summary), clients: states.iter().enumerate().map(client).collect() }
    }

    #[test]
    fn a_first_look_tells_who_has_done_something() {
        let lines = changes(None, &detail(1, "collecting", ["training", "waiting"]));
        assert_eq!(lines, ["round 1 opened: 2 invited", "round 1: site-0 training"]);
    }

    #[test]
    fn only_what_is_new_is_told() {
        let before = detail(1, "collecting", ["accepted", "training"]);
        assert_eq!(changes(Some(&before), &before), [""; 0]);
        let after = detail(1, "closed", ["accepted", "accepted"]);
        let lines = changes(Some(&before), &after);
        assert_eq!(lines, ["round 1: site-1 accepted (0 examples)", "round 1 closed: 2 of 2 accepted"]);
    }

    #[test]
    fn a_new_round_begins_anew() {
        let before = detail(1, "published", ["accepted", "accepted"]);
        let lines = changes(Some(&before), &detail(2, "collecting", ["waiting", "accepted"]));
        assert_eq!(lines, ["round 2 opened: 2 invited", "round 2: site-1 accepted (0 examples)"]);
    }
}
