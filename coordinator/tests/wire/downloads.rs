//! Downloads of the round's adapter.

use std::num::NonZeroUsize;

use fedlora_adapter::Digest;
use fedlora_coordinator::grpc::{RateLimits, Settings};
use fedlora_proto::{
    digest_bytes,
    federation::{Chunk, DownloadRequest},
};
use tonic::{Code, Status, Streaming};

use crate::support::{World, from, id, told};

/// Values of a module that make a blob of more than four chunks.
const WIDE: usize = 150_000;
/// And one that is larger than what the client's end of the connection takes in by itself.
const WIDER: usize = 1_000_000;

async fn download(world: &World, blob: &[u8], offset: u64) -> Result<Streaming<Chunk>, Status> {
    let request = DownloadRequest { blob: digest_bytes(Digest::of(blob)), offset };
    world.client().download(from(1, request)).await.map(tonic::Response::into_inner)
}

async fn all(mut stream: Streaming<Chunk>, offset: u64) -> Result<Vec<u8>, Status> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.message().await? {
        assert_eq!(chunk.offset, offset + bytes.len() as u64);
        assert_eq!(chunk.crc32c, crc32c::crc32c(&chunk.data));
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_blob_comes_whole_and_from_any_offset() {
    let world = World::with(WIDE, Settings::default(), RateLimits::default());
    let size = world.blob.len();
    assert!(size > 4 * 256 * 1024);
    for offset in [0, 1, 256 * 1024, 256 * 1024 + 1, size - 1, size] {
        let stream = download(&world, &world.blob, offset as u64).await.expect("a blob");
        let bytes = all(stream, offset as u64).await.expect("whole");
        assert!(bytes == world.blob[offset..], "from {offset}");
    }
    let sent = world.metrics.render();
    let expected = 6 * size - 1 - 256 * 1024 - (256 * 1024 + 1) - (size - 1) - size;
    assert!(sent.contains(&format!("direction=\"down\"}} {expected}")), "{sent}");
}

#[tokio::test]
async fn only_the_open_round_s_adapter_is_to_be_had() {
    let world = World::new();
    let refused = async |blob: &[u8], offset| told(&download(&world, blob, offset).await.expect_err("refused"));
    assert_eq!(refused(b"another", 0).await, (Code::NotFound, "UNKNOWN_BLOB".to_owned()));
    let behind = world.blob.len() as u64 + 1;
    assert_eq!(refused(&world.blob, behind).await, (Code::OutOfRange, "BEYOND_BLOB".to_owned()));
    world.engine.close_round();
    assert_eq!(refused(&world.blob, 0).await, (Code::NotFound, "UNKNOWN_BLOB".to_owned()));
    let request = DownloadRequest { blob: vec![1; 5].into(), offset: 0 };
    let status = world.client().download(from(1, request)).await.expect_err("no digest");
    assert_eq!(told(&status), (Code::InvalidArgument, "BAD_MESSAGE".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_loses_the_turn() {
    let one = NonZeroUsize::MIN;
    let settings = Settings { max_concurrent_transfers: one, ..Settings::default() };
    let world = World::with(WIDER, settings, RateLimits::default());
    let idle = download(&world, &world.blob, 0).await.expect("a blob");
    let reader = download(&world, &world.blob, 0).await.expect("the turn of the idle one");
    assert!(all(reader, 0).await.expect("whole") == world.blob);
    let status = all(idle, 0).await.map(drop).expect_err("too late");
    assert_eq!(told(&status), (Code::DeadlineExceeded, "STALLED".to_owned()));
}

#[tokio::test]
async fn revocation_ends_a_download() {
    let world = World::with(WIDER, Settings::default(), RateLimits::default());
    let stream = download(&world, &world.blob, 0).await.expect("a blob");
    // More is to come than the client's end takes in by itself, so that the revocation finds the call open.
    world.engine.revoke(id(1));
    let status = all(stream, 0).await.map(drop).expect_err("revoked");
    assert_eq!(told(&status), (Code::PermissionDenied, "REVOKED".to_owned()));
}
