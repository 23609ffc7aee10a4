//! Which certificates open the door, on either side.

use fedlora_adapter::ClientId;
use fedlora_coordinator::Role;
use fedlora_proto::federation::EnrolRequest;
use tonic::{Code, Status};

use crate::support::{HOUR, Identity, World, identity_client, participate, refusal, who_am_i};

const DAY: u64 = 24 * HOUR;

/// One call on a connection of its own. With TLS 1.3 the client's side of the handshake is done before the server has
/// looked at the certificate, so that a refusal may come with either.
async fn call(world: &World, identity: &Identity) -> Result<ClientId, Status> {
    let connected = world.connect(Some(identity)).await;
    let channel = connected.map_err(|error| Status::unavailable(error.to_string()))?;
    who_am_i(&channel).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_does_not_open_the_door() {
    let (world, other) = (World::start().await, World::start().await);
    let foreign = other.enrolled("site-1", Role::Client);
    world.enrolled("site-1", Role::Client);
    let status = call(&world, &foreign).await.expect_err("refused");
    assert!(status.metadata().get("fedlora-reason").is_none(), "TLS refuses it, before any service: {status}");
    let own = world.enrolled("site-2", Role::Client);
    assert!(call(&world, &own).await.is_ok(), "the door is open to others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_during_a_connection_is_refused_on_the_next_call() {
    let world = World::start().await;
    let site = world.enrolled("site-1", Role::Client);
    let channel = world.connect(Some(&site)).await.expect("connected");
    world.advance(30 * DAY - 1);
    assert!(who_am_i(&channel).await.is_ok());
    world.advance(1);
    assert_eq!(refusal(who_am_i(&channel).await), (Code::Unauthenticated, "CERTIFICATE_EXPIRED".into()));
    // Seconds count in certificates, and TLS lets the last one pass.
    world.advance(1_000);
    assert!(call(&world, &site).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_auditors_take_no_part_in_rounds() {
    let world = World::start().await;
    for role in [Role::Operator, Role::Auditor] {
        let person = world.enrolled(role.as_str(), role);
        let channel = world.connect(Some(&person)).await.expect("connected");
        let wrong = (Code::PermissionDenied, "WRONG_ROLE".to_owned());
        assert_eq!(refusal(who_am_i(&channel).await), wrong);
        assert_eq!(refusal(participate(&channel).await), wrong);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_under_another_name_or_of_another_authority_is_not_trusted() {
    let (world, other) = (World::start().await, World::start().await);
    for host in ["coordinator.test", "localhost", "127.0.0.1"] {
        assert!(world.connect_as(host, &world.paths(), None).await.is_ok(), "{host}");
    }
    for host in ["other.test", "coordinator.test.evil.test", "127.0.0.2"] {
        assert!(world.connect_as(host, &world.paths(), None).await.is_err(), "{host}");
    }
    assert!(world.connect_as("coordinator.test", &other.paths(), None).await.is_err());
    assert!(world.connect(None).await.is_ok(), "and nobody else is held up by that");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_replaces_its_own_certificate_while_connections_go_on() {
    let world = World::start().await;
    let before = std::fs::read(world.paths().server).expect("a file");
    let open = world.connect(None).await.expect("connected");
    world.advance(366 * DAY);
    // The old certificate has ended: only a new one lets this client in.
    let fresh = world.connect(None).await.expect("a certificate that is valid");
    assert_ne!(std::fs::read(world.paths().server).expect("a file"), before);
    for channel in [open, fresh] {
        let request = EnrolRequest { protocol_version: fedlora_proto::PROTOCOL_VERSION, ..EnrolRequest::default() };
        let refused = identity_client(&channel).enrol(request).await;
        assert_eq!(refusal(refused), (Code::Unauthenticated, "TOKEN_UNKNOWN".into()));
    }
}
