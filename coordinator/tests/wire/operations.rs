//! What operators' tools read.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use fedlora_coordinator::http::{Readiness, router};
use tower::ServiceExt;

use crate::{
    files,
    support::{WIDTH, World},
};

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("small");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn readiness_is_what_was_said_last_and_health_is_being_there() {
    let world = World::new();
    let readiness = Readiness::default();
    let router = router(world.engine.clone(), Arc::clone(&world.metrics), readiness.clone());
    assert_eq!(get(&router, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()));
    readiness.set(true);
    assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
    assert_eq!(get(&router, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    assert_eq!(get(&router, "/state").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn metrics_show_the_round_the_clients_and_the_verdicts() {
    let world = World::new();
    let mut session = world.join(1).await.expect("a session");
    session.next().await.expect("welcome");
    world.upload_file(1, &files::honest(WIDTH, 1), 100).await.expect("a receipt");
    let router = router(world.engine.clone(), Arc::clone(&world.metrics), Readiness::default());
    let (_, text) = get(&router, "/metrics").await;
    for line in [
        "fedlora_round 3",
        "fedlora_clients{state=\"connected\"} 1",
        "fedlora_updates_total{verdict=\"accepted\",reason=\"\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    world.engine.close_round();
    assert!(get(&router, "/metrics").await.1.contains("fedlora_round 0\n"));
}
