//! What load balancers and Prometheus read: `/healthz`, `/readyz` and `/metrics`, on a listener of their own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};

use crate::{grpc::Rounds, metrics::Metrics};

/// Prometheus' text format as `OpenMetrics` has it.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the coordinator takes work; false before its state is read and while it drains.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether the coordinator takes work.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Clone)]
struct Shared<R> {
    rounds: R,
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

/// The routes.
pub fn router<R: Rounds>(rounds: R, metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready::<R>))
        .route("/metrics", get(text::<R>))
        .with_state(Shared { rounds, metrics, readiness })
}

async fn ready<R: Rounds>(State(shared): State<Shared<R>>) -> impl IntoResponse {
    if shared.readiness.get() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn text<R: Rounds>(State(shared): State<Shared<R>>) -> impl IntoResponse {
    shared.metrics.set_round(shared.rounds.round().map(|round| round.plan.round.0));
    shared.metrics.set_connected(shared.rounds.connected());
    ([(CONTENT_TYPE, METRICS_TYPE)], shared.metrics.render())
}
