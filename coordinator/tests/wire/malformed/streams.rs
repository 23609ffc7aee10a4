//! Messages out of order, damaged or too large.

use fedlora_proto::{
    MAX_CHUNK_BYTES,
    federation::{Chunk, UploadMessage, upload_message::Kind},
};
use tonic::Code;

use super::cases::{Case, SENDER, status};
use crate::{
    files,
    support::{WIDTH, World, chunk, chunks, messages},
};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let file = files::honest(WIDTH, SENDER);
    let honest = || chunks(&file, 0, 100);
    let with = |chunks: Vec<Chunk>| messages(world.header(&file), chunks);
    let changed = |change: &dyn Fn(&mut Vec<Chunk>)| {
        let mut chunks = honest();
        change(&mut chunks);
        with(chunks)
    };
    let case = |name, messages, expected| Case { name, client: SENDER, messages, expected };
    let bad_message = || status(Code::InvalidArgument, "BAD_MESSAGE");
    let misplaced = || status(Code::OutOfRange, "BAD_CHUNK");
    let damaged = || status(Code::DataLoss, "BAD_CHUNK");
    let nothing = UploadMessage { kind: None };
    let header = UploadMessage { kind: Some(Kind::Header(world.header(&file))) };
    let huge = |bytes: usize| with(vec![chunk(0, &vec![7; bytes])]);
    let mut cases = vec![
        case("no message at all", Vec::new(), bad_message()),
        case("a chunk before the header", with(honest())[1..].to_vec(), bad_message()),
        case("a message of nothing first", vec![nothing.clone()], bad_message()),
        case("the header twice", vec![header.clone(), header.clone()], bad_message()),
        case("a message of nothing after the header", vec![header, nothing], bad_message()),
        case("a wrong checksum", changed(&|chunks| chunks[1].crc32c ^= 1), damaged()),
        case("no checksum", changed(&|chunks| chunks[0].crc32c = 0), damaged()),
        case("a bit flipped", changed(&|chunks| flip(&mut chunks[2])), damaged()),
        case("chunks in another order", changed(&|chunks| chunks.swap(0, 1)), misplaced()),
        case("the last chunk first", changed(&|chunks| chunks.reverse()), misplaced()),
        case("a chunk left out", changed(&|chunks| drop(chunks.remove(1))), misplaced()),
        case("a chunk twice", changed(&|chunks| chunks.insert(1, chunks[1].clone())), misplaced()),
        case("a chunk at the end of numbers", changed(&|chunks| chunks[0].offset = u64::MAX), misplaced()),
        case("a chunk without bytes", with(vec![chunk(0, &[])]), status(Code::InvalidArgument, "BAD_CHUNK")),
        case("a chunk of a byte too many", huge(MAX_CHUNK_BYTES + 1), status(Code::InvalidArgument, "BAD_CHUNK")),
        case("a message of two megabytes", huge(2 << 20), status(Code::InvalidArgument, "MESSAGE_TOO_LARGE")),
        case("more than was announced", changed(&|chunks| grow(chunks)), misplaced()),
        case("a chunk behind the end", changed(&|chunks| chunks.push(chunk(file.len() as u64, b"x"))), misplaced()),
        case("an end before the end", changed(&|chunks| drop(chunks.pop())), status(Code::Aborted, "INCOMPLETE")),
    ];
    // The partial files of the cases above must not help those below: each begins at its own place.
    cases.push(case("a start in the middle of another's file", with(chunks(&file, 1, 100)), misplaced()));
    cases
}

fn flip(chunk: &mut Chunk) {
    let mut data = chunk.data.to_vec();
    data[50] ^= 4;
    chunk.data = data.into();
}

/// The last chunk with more bytes than are left.
fn grow(chunks: &mut [Chunk]) {
    let last = chunks.last_mut().expect("there are some");
    *last = chunk(last.offset, &[last.data.as_ref(), b"more"].concat());
}
