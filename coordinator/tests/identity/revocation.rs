//! Revoking ends what is open and refuses what comes.

use std::time::Duration;

use fedlora_coordinator::Role;
use tonic::Code;

use crate::support::{World, participate, refusal, who_am_i, within};

/// What is promised.
const PROMISED: Duration = Duration::from_secs(1);

const STREAMS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_of_revoked_clients_end_within_a_second_and_no_others() {
    let world = World::start().await;
    let mut open = Vec::new();
    for index in 0..=STREAMS {
        let site = world.enrolled(&format!("site-{index}"), Role::Client);
        let channel = world.connect(Some(&site)).await.expect("connected");
        let answers = participate(&channel).await.expect("a stream");
        open.push((site, channel, answers));
    }
    let (_, channel, mut answers) = open.pop().expect("one more than is revoked");
    let revoked = (Code::PermissionDenied, "REVOKED".to_owned());
    for (site, channel, mut answers) in open {
        world.registry.revoke(site.client(), world.now()).expect("revoked");
        let last = within(PROMISED, answers.message()).await;
        assert_eq!(refusal(last), revoked, "the open stream of {}", site.client());
        assert_eq!(refusal(who_am_i(&channel).await), revoked, "the next call of {}", site.client());
        assert_eq!(refusal(participate(&channel).await), revoked);
    }
    assert!(who_am_i(&channel).await.is_ok());
    let silent = tokio::time::timeout(Duration::ZERO, answers.message()).await;
    assert!(silent.is_err(), "the stream of who was not revoked is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_cannot_even_come_back_by_a_new_connection_or_a_renewal() {
    let world = World::start().await;
    let site = world.enrolled("site-1", Role::Client);
    world.registry.revoke(site.client(), world.now()).expect("revoked");
    let channel = world.connect(Some(&site)).await.expect("TLS knows nothing of revocations");
    assert_eq!(refusal(who_am_i(&channel).await), (Code::PermissionDenied, "REVOKED".into()));
    let request = fedlora_proto::federation::RenewRequest { csr_pem: crate::support::KeyRequest::new().csr };
    let renewed = crate::support::identity_client(&channel).renew(request).await;
    assert_eq!(refusal(renewed), (Code::PermissionDenied, "REVOKED".into()));
}
