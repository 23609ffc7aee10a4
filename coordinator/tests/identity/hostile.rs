//! Connections that are not meant well, or not meant for TLS.

use std::time::Duration;

use fedlora_coordinator::Role;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Door, World, who_am_i, within};

/// A bound, not a measurement.
const LONG: Duration = Duration::from_mins(1);

/// Reads until the other end closes; a reset counts as closing.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let _ = within(LONG, stream.read_to_end(&mut rest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_against_tls_fails_and_holds_up_nobody() {
    let world = World::start().await;
    let mut plain = TcpStream::connect(world.address).await.expect("connected");
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    closed(plain).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", world.address)).expect("an address");
    assert!(within(LONG, who_am_i(&endpoint.connect_lazy())).await.is_err());
    let site = world.enrolled("site-1", Role::Client);
    assert!(who_am_i(&world.connect(Some(&site)).await.expect("connected")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed() {
    let short = Duration::from_millis(50);
    let world = World::start_with(Door::Mutual, |settings| settings.handshake_timeout = short, 1).await;
    let silent = TcpStream::connect(world.address).await.expect("connected");
    closed(silent).await;
    // The beginning of a handshake, and no more.
    let mut half = TcpStream::connect(world.address).await.expect("connected");
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.expect("sent");
    closed(half).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_push_each_other_out_and_not_the_honest_one() {
    let few = |settings: &mut fedlora_coordinator::TlsSettings| {
        settings.max_handshakes_per_address = 4;
        // Out of reach: nothing here is closed for being slow.
        settings.handshake_timeout = Duration::from_hours(1);
    };
    let world = World::start_with(Door::Mutual, few, 1).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(world.address).await.expect("connected"));
    }
    let site = world.enrolled("site-1", Role::Client);
    let channel = world.connect(Some(&site)).await.expect("connected");
    assert!(who_am_i(&channel).await.is_ok());
    // 64 silent ones and the honest one began; at most four places are left to the silent ones.
    for stream in silent.drain(..60) {
        closed(stream).await;
    }
    assert!(who_am_i(&channel).await.is_ok(), "an open connection is not pushed out");
}
