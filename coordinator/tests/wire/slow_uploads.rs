//! Uploads that take their time, in virtual time.

use std::{num::NonZeroUsize, time::Duration};

use fedlora_coordinator::grpc::{RateLimits, Settings};
use fedlora_proto::federation::Verdict;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::{
    files,
    support::{WIDTH, World, chunks, messages, then_silent, told},
    uploads::assert_verdict,
};

#[tokio::test(start_paused = true)]
async fn an_upload_that_falls_silent_is_cut_off_and_keeps_its_place() {
    let world = World::new();
    let file = files::honest(WIDTH, 1);
    let begin = tokio::time::Instant::now();
    let part = then_silent(messages(world.header(&file), chunks(&file, 0, 100)[..2].to_vec()));
    let status = world.upload(1, part).await.expect_err("silent");
    assert_eq!(told(&status), (Code::DeadlineExceeded, "STALLED".to_owned()));
    // Virtual time: one window of 10 s, and no second one.
    assert!((10..20).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert_eq!(world.status(1, &file).await.committed_bytes, 200);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_dribbles_is_cut_off() {
    let width = 20_000;
    let world = World::with(width, Settings::default(), RateLimits::default());
    let file = files::honest(width, 1);
    // A byte a second, where 64 KiB in ten seconds are the least.
    let mut parts = messages(world.header(&file), chunks(&file[..600], 0, 1));
    let header = tokio_stream::once(parts.remove(0));
    let slow = header.chain(tokio_stream::iter(parts).throttle(Duration::from_secs(1)));
    let begin = tokio::time::Instant::now();
    let status = world.upload(1, slow).await.expect_err("too slow");
    assert_eq!(told(&status), (Code::DeadlineExceeded, "STALLED".to_owned()));
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_but_steady_upload_is_let_be() {
    let width = 140_000;
    let world = World::with(width, Settings::default(), RateLimits::default());
    let file = files::honest(width, 1);
    // 128 KiB every 9 s: nine chunks, more than a minute in all.
    let parts = tokio_stream::iter(messages(world.header(&file), chunks(&file, 0, 128 * 1024)));
    let receipt = world.upload(1, parts.throttle(Duration::from_secs(9))).await.expect("a receipt");
    assert_verdict(&receipt, Verdict::Accepted, "");
}

#[tokio::test(start_paused = true)]
async fn an_upload_without_a_header_is_cut_off() {
    let world = World::new();
    let status = world.upload(1, tokio_stream::pending()).await.expect_err("silent");
    assert_eq!(told(&status), (Code::DeadlineExceeded, "SILENT".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn uploads_wait_for_their_turn_and_not_for_ever() {
    let settings = Settings {
        max_concurrent_transfers: NonZeroUsize::MIN,
        transfer_queue_timeout_ms: 7_000,
        ..Settings::default()
    };
    let world = World::with(WIDTH, settings, RateLimits::default());
    let (file, other) = (files::honest(WIDTH, 1), files::honest(WIDTH, 2));
    let first = world.begin_upload(1, &file).await;
    let status = world.upload_file(2, &other, 100).await.expect_err("after seven seconds");
    assert_eq!(told(&status), (Code::ResourceExhausted, "BUSY".to_owned()));
    let (waited, stalled) = tokio::join!(world.upload_file(2, &other, 100), first);
    let status = stalled.expect("no panic").expect_err("silent for ten seconds");
    assert_eq!(told(&status), (Code::DeadlineExceeded, "STALLED".to_owned()));
    assert_verdict(&waited.expect("the turn of the silent one"), Verdict::Accepted, "");
}
