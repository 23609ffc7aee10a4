//! From a token to a certificate that opens the door.

use fedlora_adapter::ClientId;
use fedlora_coordinator::Role;
use fedlora_proto::{
    PROTOCOL_VERSION,
    federation::{EnrolRequest, EnrolResponse, RenewRequest},
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{Door, HOUR, Identity, KeyRequest, World, identity_client, refusal, who_am_i};

async fn enrol(channel: &Channel, token: &str, csr_pem: &str) -> Result<EnrolResponse, Status> {
    let (token, csr_pem) = (token.into(), csr_pem.into());
    let request = EnrolRequest { token, csr_pem, protocol_version: PROTOCOL_VERSION };
    Ok(identity_client(channel).enrol(request).await?.into_inner())
}

fn denied(reason: &str) -> (Code, String) {
    (Code::PermissionDenied, reason.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_door_once_and_the_certificate_opens_it_afterwards() {
    let world = World::start().await;
    let stranger = world.connect(None).await.expect("TLS without a certificate");
    assert_eq!(refusal(who_am_i(&stranger).await), (Code::Unauthenticated, "CREDENTIALS_MISSING".into()));

    let (token, request) = (world.token("site-1", Role::Client), KeyRequest::new());
    let issued = enrol(&stranger, &token, &request.csr).await.expect("enrolled");
    assert_eq!((issued.client_id, issued.name.as_str()), (0, "site-1"));
    let site = world.connect(Some(&Identity::new(request, issued))).await.expect("TLS with a certificate");
    assert_eq!(who_am_i(&site).await.expect("known"), ClientId(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn reused_stolen_expired_and_revoked_tokens_are_refused() {
    let world = World::start().await;
    let channel = world.connect(None).await.expect("connected");
    let (token, request) = (world.token("site-1", Role::Client), KeyRequest::new());
    enrol(&channel, &token, &request.csr).await.expect("enrolled");
    assert_eq!(refusal(enrol(&channel, &token, &request.csr).await), denied("TOKEN_USED"), "reused");
    let thief = KeyRequest::new();
    assert_eq!(refusal(enrol(&channel, &token, &thief.csr).await), denied("TOKEN_USED"), "stolen");

    let late = world.token("site-2", Role::Client);
    world.advance(HOUR);
    assert_eq!(refusal(enrol(&channel, &late, &thief.csr).await), denied("TOKEN_EXPIRED"));

    let withdrawn = world.token("site-3", Role::Client);
    let tokens = world.registry.tokens(world.now()).expect("tokens");
    let id = &tokens.iter().find(|token| token.name == "site-3").expect("listed").token_id;
    world.registry.revoke_token(id, world.now()).expect("revoked");
    assert_eq!(refusal(enrol(&channel, &withdrawn, &thief.csr).await), denied("TOKEN_REVOKED"));

    let unknown = enrol(&channel, "fl1_0000", &thief.csr).await;
    assert_eq!(refusal(unknown), (Code::Unauthenticated, "TOKEN_UNKNOWN".into()));
    let fresh = world.token("site-4", Role::Client);
    assert_eq!(refusal(enrol(&channel, &fresh, "no request").await), (Code::InvalidArgument, "BAD_CSR".into()));
    assert_eq!(world.registry.clients().expect("clients").len(), 1, "of all those, one enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_version_is_told_both_versions() {
    let world = World::start().await;
    let channel = world.connect(None).await.expect("connected");
    let request = EnrolRequest { protocol_version: 999, ..EnrolRequest::default() };
    let status = identity_client(&channel).enrol(request).await.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("999") && status.message().contains(&PROTOCOL_VERSION.to_string()), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_certificates_are_renewed() {
    const CALLERS: usize = 4;
    const CALLS: usize = 50;
    let world = World::start().await;
    let mut site = world.enrolled("site-1", Role::Client);
    let mut failed = 0;
    // Every renewal changes key and certificate; calls on the connection of before go on across it.
    for _ in 0..5 {
        let channel = world.connect(Some(&site)).await.expect("connected");
        let call = |channel: Channel| async move {
            let mut failed = 0;
            for _ in 0..CALLS {
                failed += usize::from(who_am_i(&channel).await.ok() != Some(ClientId(0)));
            }
            failed
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(call(channel.clone()))).collect();
        let request = KeyRequest::new();
        let renewed = identity_client(&channel).renew(RenewRequest { csr_pem: request.csr.clone() }).await;
        site = Identity::new(request, renewed.expect("renewed").into_inner());
        let fresh = world.connect(Some(&site)).await.expect("connected");
        assert_eq!(who_am_i(&fresh).await.expect("known"), ClientId(0), "the new certificate works at once");
        for caller in callers {
            failed += caller.await.expect("no panic");
        }
    }
    assert_eq!(failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_has_to_wait() {
    let world = World::start_with(Door::Mutual, |_| {}, 2).await;
    let site = world.enrolled("site-1", Role::Client);
    let channel = world.connect(Some(&site)).await.expect("connected");
    let exhausted = (Code::ResourceExhausted, "RATE_LIMITED".to_owned());
    let mut enrolments = Vec::new();
    let mut renewals = Vec::new();
    for _ in 0..3 {
        enrolments.push(refusal(enrol(&channel, "nonsense", "").await));
        let request = RenewRequest { csr_pem: KeyRequest::new().csr };
        renewals.push(identity_client(&channel).renew(request).await);
    }
    let unknown = (Code::Unauthenticated, "TOKEN_UNKNOWN".to_owned());
    assert_eq!(enrolments, [unknown.clone(), unknown, exhausted.clone()]);
    assert!(renewals[..2].iter().all(Result::is_ok));
    assert_eq!(refusal(renewals.pop().expect("three")), exhausted);
    assert!(who_am_i(&channel).await.is_ok(), "other calls are not concerned");
}
