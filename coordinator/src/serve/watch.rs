//! What has to happen when something else does.

use std::sync::Arc;

use fedlora_proto::operator::RunPrivacy;
use tokio::sync::broadcast::error::RecvError;

use crate::{Handle, Registry, RunId, metrics::Metrics};

/// Counts each round once that is published after the start.
pub(super) async fn rounds(engine: Handle, metrics: Arc<Metrics>) {
    let mut changes = engine.changes();
    let mut counted = match engine.run() {
        Some(run) => Some((run.id, published(&engine, run.id, 0).await.last().map_or(0, |(round, ..)| *round))),
        None => None,
    };
    show_epsilon(&engine, &metrics).await;
    while changes.changed().await.is_ok() {
        let live = engine.run().map(|run| run.id);
        // The last round of a run that is over by now, then those of the run that followed it.
        let over = counted.map(|(run, _)| run).filter(|run| live != Some(*run));
        for run in over.into_iter().chain(live) {
            let after = counted.filter(|(before, _)| *before == run).map_or(0, |(_, round)| round);
            for (round, duration_ms, aggregation_ms) in published(&engine, run, after).await {
                metrics.observe_round(duration_ms, aggregation_ms);
                counted = Some((run, round));
                show_epsilon(&engine, &metrics).await;
            }
        }
    }
}

/// What the last run has spent, where the coordinator adds the noise.
async fn show_epsilon(engine: &Handle, metrics: &Metrics) {
    let runs = engine.runs().await.unwrap_or_default();
    let privacy = runs.into_iter().next().and_then(|run| run.privacy);
    if let Some(RunPrivacy { epsilon_pld: Some(pld), epsilon_rdp: Some(rdp), .. }) = privacy {
        metrics.set_epsilon(pld, rdp);
    }
}

/// Number, duration and time of the server step of a run's rounds after one.
async fn published(engine: &Handle, run: RunId, after: u64) -> Vec<(u64, u64, u64)> {
    // A coordinator that cannot read its records has worse to tell than a gap in a histogram.
    let rounds = engine.metrics(Some(run), after).await.unwrap_or_default();
    let number = |summary: &fedlora_proto::operator::RoundSummary| summary.round;
    rounds.iter().map(|one| (one.summary.as_ref().map_or(0, number), one.duration_ms, one.aggregation_ms)).collect()
}

/// Whoever is revoked takes no further part.
pub(super) async fn revocations(engine: Handle, registry: Registry) {
    let mut revocations = registry.revocations();
    loop {
        match revocations.recv().await {
            Ok(client) => engine.expel(client).await,
            // Their sessions end by themselves; the engine learns of them when they have.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}
