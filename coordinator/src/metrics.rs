//! Counters of a coordinator for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{Receipt, Verdict};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    verdict: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountedBy {
    accountant: &'static str,
}

/// What happened since the start of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    round: Gauge,
    clients: Family<State, Gauge>,
    round_seconds: Histogram,
    aggregation_seconds: Histogram,
    update_bytes: Family<Direction, Counter>,
    updates: Family<Outcome, Counter>,
    epsilon: Family<AccountedBy, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        // From a millisecond to nine hours: a no-op round on loopback, a round of a large model over night.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 25));
        let mut registry = Registry::with_prefix("fedlora");
        let (round, clients) = (Gauge::default(), Family::<State, Gauge>::default());
        let (round_seconds, aggregation_seconds) = (seconds(), seconds());
        let (update_bytes, updates) = (Family::<Direction, Counter>::default(), Family::<Outcome, Counter>::default());
        registry.register("round", "Open round of the live run, 0 for none", round.clone());
        registry.register("clients", "Clients by state", clients.clone());
        let help = "Time from the opening of a round to its publication";
        registry.register("round_duration_seconds", help, round_seconds.clone());
        registry.register("aggregation_seconds", "Time of the server step", aggregation_seconds.clone());
        let help = "Bytes of adapters and updates by direction as the coordinator sees it";
        registry.register("update_bytes", help, update_bytes.clone());
        registry.register("updates", "Updates by verdict and reason code", updates.clone());
        let epsilon = Family::<AccountedBy, Gauge<f64, AtomicU64>>::default();
        let help = "Differential privacy: epsilon spent on each client by the last run's published adapters";
        registry.register("privacy_epsilon", help, epsilon.clone());
        Self { registry, round, clients, round_seconds, aggregation_seconds, update_bytes, updates, epsilon }
    }
}

impl Metrics {
    /// The open round; `None` where no round is.
    pub fn set_round(&self, round: Option<u64>) {
        self.round.set(round.unwrap_or(0) as i64);
    }

    /// Clients with an open session.
    pub fn set_connected(&self, clients: usize) {
        self.clients.get_or_create(&State { state: "connected" }).set(clients as i64);
    }

    /// A round was published.
    pub fn observe_round(&self, duration_ms: u64, aggregation_ms: u64) {
        self.round_seconds.observe(duration_ms as f64 / 1000.0);
        self.aggregation_seconds.observe(aggregation_ms as f64 / 1000.0);
    }

    /// What the last run has spent on each client, by privacy loss distributions and by Rényi divergences.
    pub fn set_epsilon(&self, pld: f64, rdp: f64) {
        for (accountant, epsilon) in [("pld", pld), ("rdp", rdp)] {
            self.epsilon.get_or_create(&AccountedBy { accountant }).set(epsilon);
        }
    }

    /// Bytes of updates came in.
    pub(crate) fn add_received(&self, bytes: u64) {
        self.update_bytes.get_or_create(&Direction { direction: "up" }).inc_by(bytes);
    }

    /// Bytes of adapters went out.
    pub(crate) fn add_sent(&self, bytes: u64) {
        self.update_bytes.get_or_create(&Direction { direction: "down" }).inc_by(bytes);
    }

    /// A verdict was given.
    pub(crate) fn count(&self, receipt: &Receipt) {
        let verdict = match receipt.verdict {
            Verdict::Accepted => "accepted",
            Verdict::Duplicate => "duplicate",
            Verdict::Conflict => "conflict",
            Verdict::NotInvited => "not-invited",
            Verdict::Late => "late",
            Verdict::Rejected => "rejected",
        };
        let reason = receipt.reason.map_or("", crate::ReasonCode::as_str);
        self.updates.get_or_create(&Outcome { verdict, reason }).inc();
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into memory fails only where there is none left.
        match text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReasonCode;

    #[test]
    fn every_metric_has_its_documented_name_and_labels() {
        let metrics = Metrics::default();
        metrics.set_round(Some(3));
        metrics.set_connected(2);
        metrics.observe_round(1500, 20);
        metrics.set_epsilon(0.5, 0.75);
        metrics.add_received(10);
        metrics.add_sent(20);
        let reason = Some(ReasonCode::NotFinite);
        metrics.count(&Receipt { verdict: Verdict::Rejected, reason, detail: String::new() });
        let text = metrics.render();
        for line in [
            "fedlora_round 3",
            "fedlora_clients{state=\"connected\"} 2",
            "fedlora_privacy_epsilon{accountant=\"pld\"} 0.5",
            "fedlora_round_duration_seconds_sum 1.5",
            "fedlora_aggregation_seconds_sum 0.02",
            "fedlora_update_bytes_total{direction=\"up\"} 10",
            "fedlora_update_bytes_total{direction=\"down\"} 20",
            "fedlora_updates_total{verdict=\"rejected\",reason=\"NOT_FINITE\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
