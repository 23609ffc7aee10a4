//! Uploads of valid updates, whatever happens to the calls that carry them.

use std::{fs, os::unix::fs::symlink};

use fedlora_adapter::Digest;
use fedlora_coordinator::grpc::{RateLimits, Rounds, Settings};
use fedlora_proto::{
    digest_bytes,
    federation::{Receipt, UploadHeader, UploadMessage, Verdict, server_message::Kind as Down, upload_message::Kind},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    engine::NOT_INVITED,
    files,
    support::{WIDTH, World, chunks, from, id, messages, then_silent, told},
};

#[track_caller]
pub(crate) fn assert_verdict(receipt: &Receipt, verdict: Verdict, reason: &str) {
    assert_eq!((receipt.verdict(), receipt.reason.as_str()), (verdict, reason), "{}", receipt.detail);
}

/// Nothing is left where partial uploads lie.
fn spool_is_empty(world: &World) -> bool {
    let place = world.engine.spool_path(id(1), Digest::of(b"any"));
    fs::read_dir(place.parent().expect("a folder")).expect("readable").next().is_none()
}

#[tokio::test]
async fn a_round_from_hello_to_receipt() {
    let world = World::new();
    let mut session = world.join(1).await.expect("a session");
    assert!(matches!(session.next().await, Ok(Down::Welcome(_))));
    let file = files::honest(WIDTH, 1);
    let receipt = world.upload_file(1, &file, 100).await.expect("a receipt");
    assert_verdict(&receipt, Verdict::Accepted, "");
    assert_eq!(world.engine.books().accepted, [(id(1), (Digest::of(&file), 20))].into());
    assert_eq!(fs::read(world.engine.blob_path(Digest::of(&file))).expect("durable"), file);
    assert!(spool_is_empty(&world));
    let metrics = world.metrics.render();
    assert!(metrics.contains("fedlora_updates_total{verdict=\"accepted\",reason=\"\"} 1"), "{metrics}");
    assert!(metrics.contains(&format!("direction=\"up\"}} {}", file.len())), "{metrics}");
}

#[tokio::test]
async fn a_large_update_comes_in_chunks_of_any_size() {
    // 1.1 MiB: more than a batch, a window and a chunk.
    let width = 140_000;
    let world = World::with(width, Settings::default(), RateLimits::default());
    for (client, size) in [(1, 1 << 20), (2, 300_000), (3, 4096)] {
        let file = files::honest(width, client);
        assert!(file.len() > 1 << 20);
        let receipt = world.upload_file(client, &file, size).await.expect("a receipt");
        assert_verdict(&receipt, Verdict::Accepted, "");
        assert!(fs::read(world.engine.blob_path(Digest::of(&file))).expect("durable") == file);
    }
}

#[tokio::test]
async fn an_upload_broken_after_any_chunk_goes_on_there() {
    const CHUNK: usize = 64;
    let file = files::honest(WIDTH, 1);
    let whole = file.len().div_ceil(CHUNK);
    for broken_after in 0..=whole {
        let world = World::new();
        let all = chunks(&file, 0, CHUNK);
        let first = messages(world.header(&file), all[..broken_after].to_vec());
        if broken_after < whole {
            let status = world.upload(1, tokio_stream::iter(first)).await.expect_err("incomplete");
            assert_eq!(told(&status), (Code::Aborted, "INCOMPLETE".to_owned()));
            let state = world.status(1, &file).await;
            assert_eq!((state.committed_bytes, state.receipt), ((broken_after * CHUNK) as u64, None));
            let rest = messages(world.header(&file), all[broken_after..].to_vec());
            let receipt = world.upload(1, tokio_stream::iter(rest)).await.expect("a receipt");
            assert_verdict(&receipt, Verdict::Accepted, "");
        } else {
            world.upload(1, tokio_stream::iter(first)).await.expect("a receipt");
        }
        assert_eq!(world.engine.books().accepted, [(id(1), (Digest::of(&file), 20))].into());
        assert_eq!(fs::read(world.engine.blob_path(Digest::of(&file))).expect("durable"), file);
        let receipt = world.status(1, &file).await.receipt.expect("judged");
        assert_verdict(&receipt, Verdict::Accepted, "");
    }
}

#[tokio::test]
async fn what_came_in_before_a_connection_died_is_kept() {
    let world = World::new();
    let file = files::honest(WIDTH, 1);
    let (sender, receiver) = mpsc::channel::<UploadMessage>(16);
    for message in messages(world.header(&file), chunks(&file, 0, 100)[..2].to_vec()) {
        sender.send(message).await.expect("room");
    }
    let mut client = world.client();
    let call = tokio::spawn(async move { client.upload(from(1, ReceiverStream::new(receiver))).await });
    // The chunks are counted as they are taken: then the caller dies without a word.
    while !world.metrics.render().contains("direction=\"up\"} 200") {
        tokio::task::yield_now().await;
    }
    call.abort();
    drop(sender);
    // The next call takes the slot over, whether or not the server has noticed the death of the first.
    let mut rest = messages(world.header(&file), chunks(&file, 200, 100));
    let header = rest.remove(0);
    let (sender, receiver) = mpsc::channel::<UploadMessage>(16);
    sender.send(header).await.expect("room");
    for message in rest {
        sender.send(message).await.expect("room");
    }
    drop(sender);
    let receipt = world.upload(1, ReceiverStream::new(receiver)).await.expect("a receipt");
    assert_verdict(&receipt, Verdict::Accepted, "");
}

#[tokio::test]
async fn a_client_that_lost_its_memory_begins_anew() {
    let world = World::new();
    let file = files::honest(WIDTH, 1);
    let part = messages(world.header(&file), chunks(&file, 0, 100)[..2].to_vec());
    world.upload(1, tokio_stream::iter(part)).await.expect_err("incomplete");
    let receipt = world.upload_file(1, &file, 90).await.expect("a receipt");
    assert_verdict(&receipt, Verdict::Accepted, "");
}

#[tokio::test]
async fn a_spool_file_that_the_disk_damaged_is_no_fault_of_the_client() {
    let file = files::honest(WIDTH, 1);
    // In a value, in the header, in its length.
    for place in [299, 20, 0] {
        let world = World::new();
        let mut damaged = file[..300].to_vec();
        damaged[place] ^= 0x80;
        fs::write(world.engine.spool_path(id(1), Digest::of(&file)), damaged).expect("a writable folder");
        let rest = messages(world.header(&file), chunks(&file, 300, 100));
        let status = world.upload(1, tokio_stream::iter(rest)).await.expect_err("damaged");
        assert_eq!(told(&status), (Code::DataLoss, "SPOOL_DAMAGED".to_owned()), "byte {place}");
        assert!(spool_is_empty(&world) && world.engine.books().refused.is_empty(), "the next attempt begins anew");
        let receipt = world.upload_file(1, &file, 100).await.expect("a receipt");
        assert_verdict(&receipt, Verdict::Accepted, "");
    }
}

#[tokio::test]
async fn who_sends_another_file_than_announced_in_two_calls_is_found_out_in_the_third() {
    let world = World::new();
    let (file, other) = (files::honest(WIDTH, 1), files::honest(WIDTH, 2));
    assert_eq!(file.len(), other.len());
    let part = messages(world.header(&file), chunks(&other, 0, 100)[..3].to_vec());
    world.upload(1, tokio_stream::iter(part)).await.expect_err("incomplete");
    let rest = messages(world.header(&file), chunks(&other, 300, 100));
    let status = world.upload(1, tokio_stream::iter(rest)).await.expect_err("the disk has the benefit of the doubt");
    assert_eq!(told(&status), (Code::DataLoss, "SPOOL_DAMAGED".to_owned()));
    let whole = messages(world.header(&file), chunks(&other, 0, 100));
    let receipt = world.upload(1, tokio_stream::iter(whole)).await.expect("a receipt");
    assert_verdict(&receipt, Verdict::Rejected, "DIGEST_MISMATCH");
}

#[tokio::test]
async fn the_same_content_gets_the_same_receipt_and_other_content_does_not_count() {
    let world = World::new();
    let (first, second) = (files::honest(WIDTH, 1), files::honest(WIDTH, 2));
    world.upload_file(1, &first, 100).await.expect("a receipt");
    let books = world.engine.books();
    let again = world.upload_file(1, &first, 100).await.expect("a receipt");
    assert_verdict(&again, Verdict::Duplicate, "");
    let header_alone = tokio_stream::iter(messages(world.header(&first), Vec::new()));
    assert_verdict(&world.upload(1, header_alone).await.expect("a receipt"), Verdict::Duplicate, "");
    let other = world.upload_file(1, &second, 100).await.expect("a receipt");
    assert_verdict(&other, Verdict::Conflict, "ALREADY_SUBMITTED");
    let foreign = world.upload_file(NOT_INVITED, &second, 100).await.expect("a receipt");
    assert_verdict(&foreign, Verdict::NotInvited, "NOT_INVITED");
    assert_eq!(world.engine.books(), books);
}

#[tokio::test]
async fn an_update_that_is_overtaken_by_the_end_of_its_round_is_late() {
    let world = World::new();
    let file = files::honest(WIDTH, 1);
    let (sender, receiver) = mpsc::channel::<UploadMessage>(16);
    for message in messages(world.header(&file), chunks(&file, 0, 100)) {
        sender.send(message).await.expect("room");
    }
    let mut client = world.client();
    let call = tokio::spawn(async move { client.upload(from(1, ReceiverStream::new(receiver))).await });
    while !world.metrics.render().contains(&format!("direction=\"up\"}} {}", file.len())) {
        tokio::task::yield_now().await;
    }
    world.engine.close_round();
    drop(sender);
    let receipt = call.await.expect("no panic").expect("a receipt").into_inner();
    assert_verdict(&receipt, Verdict::Late, "STALE_ROUND");
    assert!(world.engine.books().accepted.is_empty());
}

#[tokio::test]
async fn a_younger_upload_of_the_same_client_takes_over() {
    let world = World::new();
    let file = files::honest(WIDTH, 1);
    let part = then_silent(messages(world.header(&file), chunks(&file, 0, 100)[..3].to_vec()));
    let mut client = world.client();
    let older = tokio::spawn(async move { client.upload(from(1, part)).await });
    while !world.metrics.render().contains("direction=\"up\"} 300") {
        tokio::task::yield_now().await;
    }
    let rest = messages(world.header(&file), chunks(&file, 300, 100));
    let receipt = world.upload(1, tokio_stream::iter(rest)).await.expect("a receipt");
    assert_verdict(&receipt, Verdict::Accepted, "");
    let status = older.await.expect("no panic").expect_err("superseded");
    assert_eq!(told(&status), (Code::Aborted, "SUPERSEDED".to_owned()));
}

#[tokio::test]
async fn a_client_has_one_partial_upload() {
    let world = World::new();
    for client in [1, 2] {
        for version in 0..4 {
            let file = files::honest(WIDTH, version);
            let part = messages(world.header(&file), chunks(&file, 0, 100)[..2].to_vec());
            world.upload(client, tokio_stream::iter(part)).await.expect_err("incomplete");
        }
    }
    let place = world.engine.spool_path(id(1), Digest::of(b"any"));
    let left = fs::read_dir(place.parent().expect("a folder")).expect("readable").count();
    assert_eq!(left, 2, "one of each client");
}

#[tokio::test]
async fn revocation_ends_an_upload() {
    let world = World::new();
    let file = files::honest(WIDTH, 1);
    let part = then_silent(messages(world.header(&file), chunks(&file, 0, 100)[..2].to_vec()));
    let mut client = world.client();
    let call = tokio::spawn(async move { client.upload(from(1, part)).await });
    while !world.metrics.render().contains("direction=\"up\"} 200") {
        tokio::task::yield_now().await;
    }
    world.engine.revoke(id(1));
    let status = call.await.expect("no panic").expect_err("revoked");
    assert_eq!(told(&status), (Code::PermissionDenied, "REVOKED".to_owned()));
}

#[tokio::test]
async fn a_full_disk_refuses_the_upload_and_nothing_else() {
    let world = World::new();
    let (file, other) = (files::honest(WIDTH, 1), files::honest(WIDTH, 2));
    // A device that is always full, where the spool file would be.
    symlink("/dev/full", world.engine.spool_path(id(1), Digest::of(&file))).expect("a writable folder");
    let status = world.upload_file(1, &file, 100).await.expect_err("full");
    assert_eq!(told(&status), (Code::ResourceExhausted, "STORAGE_FULL".to_owned()));
    assert!(status.metadata().contains_key("retry-after"));
    assert!(spool_is_empty(&world), "half a file on a full disk is given up");
    world.engine.fill_disk(true);
    let status = world.upload_file(2, &other, 100).await.expect_err("full");
    assert_eq!(told(&status), (Code::ResourceExhausted, "STORAGE_FULL".to_owned()));
    assert_eq!(world.status(2, &other).await.committed_bytes, other.len() as u64, "it need not be sent again");
    world.engine.fill_disk(false);
    let nothing_left = tokio_stream::iter(messages(world.header(&other), Vec::new()));
    assert_verdict(&world.upload(2, nothing_left).await.expect("a receipt"), Verdict::Accepted, "");
    assert_verdict(&world.upload_file(1, &file, 100).await.expect("a receipt"), Verdict::Accepted, "");
}

#[tokio::test]
async fn more_bytes_than_there_is_room_for_are_told_to_come_back() {
    let settings = Settings { max_upload_bytes: 1, ..Settings::default() };
    let world = World::with(WIDTH, settings, RateLimits::default());
    let (file, other) = (files::honest(WIDTH, 1), files::honest(WIDTH, 2));
    let first = world.begin_upload(1, &file).await;
    let status = world.upload_file(2, &other, 100).await.expect_err("no room");
    assert_eq!(told(&status), (Code::ResourceExhausted, "BUSY".to_owned()));
    assert_eq!(status.metadata().get("retry-after").expect("set"), "5");
    first.abort();
    // The room comes back with the end of the first; a younger call of its client ends it for certain.
    assert_verdict(&world.upload_file(1, &file, 100).await.expect("a receipt"), Verdict::Accepted, "");
    assert_verdict(&world.upload_file(2, &other, 100).await.expect("a receipt"), Verdict::Accepted, "");
}

#[tokio::test]
async fn another_client_s_partial_upload_is_not_to_be_continued() {
    let world = World::new();
    let file = files::honest(WIDTH, 1);
    let part = messages(world.header(&file), chunks(&file, 0, 100)[..2].to_vec());
    world.upload(1, tokio_stream::iter(part)).await.expect_err("incomplete");
    assert_eq!(world.status(2, &file).await.committed_bytes, 0);
    let rest = messages(world.header(&file), chunks(&file, 200, 100));
    let status = world.upload(2, tokio_stream::iter(rest)).await.expect_err("nothing there");
    assert_eq!(told(&status), (Code::OutOfRange, "BAD_CHUNK".to_owned()));
    assert_eq!(status.message(), "a chunk at byte 200, expected one at byte 0");
}

#[tokio::test]
async fn a_round_of_two_clients_in_any_chunks_leaves_the_same_bytes() {
    let world = World::new();
    for client in [1, 2] {
        let file = files::honest(WIDTH, client);
        let header = UploadHeader { blake3: digest_bytes(Digest::of(&file)), ..world.header(&file) };
        let kinds = chunks(&file, 0, 7 * client as usize).into_iter().map(Kind::Chunk);
        let all = std::iter::once(Kind::Header(header)).chain(kinds).map(|kind| UploadMessage { kind: Some(kind) });
        let receipt = world.upload(client, tokio_stream::iter(all.collect::<Vec<_>>())).await.expect("a receipt");
        assert_verdict(&receipt, Verdict::Accepted, "");
        assert_eq!(fs::read(world.engine.blob_path(Digest::of(&file))).expect("durable"), file);
    }
}
