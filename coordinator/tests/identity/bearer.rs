//! Access tokens, where TLS ends before the coordinator or there is none.

use fedlora_coordinator::Role;
use tonic::{Code, transport::Channel};

use crate::support::{Door, World, ask, refusal};

async fn connect(world: &World, door: Door) -> Channel {
    match door {
        Door::ClearText => world.connect_clear().await,
        _ => world.connect(None).await.expect("connected"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_names_its_client_and_nothing_else_does() {
    for door in [Door::OneWay, Door::ClearText] {
        let world = World::start_with(door, |_| {}, 10_000).await;
        let (first, second) = (world.enrolled("a", Role::Client), world.enrolled("b", Role::Client));
        let channel = connect(&world, door).await;
        for site in [&first, &second] {
            let header = format!("Bearer {}", site.issued.access_token);
            assert_eq!(ask(&channel, Some(&header)).await.expect("known"), site.client(), "{door:?}");
        }
        let unauthenticated = |reason: &str| (Code::Unauthenticated, reason.to_owned());
        assert_eq!(refusal(ask(&channel, None).await), unauthenticated("CREDENTIALS_MISSING"));
        assert_eq!(refusal(ask(&channel, Some("Basic abc")).await), unauthenticated("CREDENTIALS_MISSING"));
        assert_eq!(refusal(ask(&channel, Some("Bearer abc")).await), unauthenticated("TOKEN_UNKNOWN"));
        let enrolment = format!("Bearer {}", world.token("c", Role::Client));
        assert_eq!(refusal(ask(&channel, Some(&enrolment)).await), unauthenticated("TOKEN_UNKNOWN"));

        world.registry.revoke(first.client(), world.now()).expect("revoked");
        let header = format!("Bearer {}", first.issued.access_token);
        assert_eq!(refusal(ask(&channel, Some(&header)).await), (Code::PermissionDenied, "REVOKED".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_not_replace_a_certificate_where_one_is_asked_for() {
    let world = World::start().await;
    let site = world.enrolled("a", Role::Client);
    let channel = world.connect(None).await.expect("connected");
    let header = format!("Bearer {}", site.issued.access_token);
    assert_eq!(refusal(ask(&channel, Some(&header)).await), (Code::Unauthenticated, "CREDENTIALS_MISSING".into()));
}
