//! A whole coordinator on this machine, from its start to its end.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::*;
use crate::identity::pki::init_pki;

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn a_coordinator_serves_until_it_is_told_to_stop() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    init_pki(&state.path().join("pki"), &["localhost".to_owned()], SystemClock::new().now()).expect("made");
    let config = ServeConfig {
        listen: any,
        http_listen: any,
        state_dir: state.path().to_owned(),
        insecure: true,
        ..ServeConfig::default()
    };
    let coordinator = Coordinator::open(config).await.expect("usable");
    let (grpc, http) = (coordinator.grpc_address().expect("bound"), coordinator.http_address().expect("bound"));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(coordinator.run(async {
        // A sender that is gone asks to stop too.
        let _ = stopped.await;
    }));
    let channel = Endpoint::from_shared(format!("http://{grpc}")).expect("valid").connect().await.expect("listening");
    let mut health = HealthClient::new(channel);
    let service = "fedlora.federation.v1.Federation".to_owned();
    let mut watched = health.watch(HealthCheckRequest { service }).await.expect("known").into_inner();
    while watched.message().await.expect("open").expect("more").status() != ServingStatus::Serving {}
    assert!(get(http, "/healthz").await.ends_with("ok\n"));
    assert!(get(http, "/metrics").await.contains("fedlora_round 0"));
    stop.send(()).expect("serving");
    let next = watched.message().await.expect("open").expect("more");
    assert_eq!(next.status(), ServingStatus::NotServing);
    drop((health, watched));
    served.await.expect("no panic").expect("drained");
    TcpStream::connect(grpc).await.expect_err("closed");
}
