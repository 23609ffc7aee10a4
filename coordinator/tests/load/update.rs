//! Updates of many clients that share one file in memory: each differs from it in a single value of its own.

use fedlora_adapter::{Adapter, Digest, encode_adapter};
use fedlora_proto::{
    digest_bytes,
    federation::{Chunk, UploadHeader, UploadMessage, upload_message::Kind},
};
use tonic::codegen::Bytes;

/// Bytes of a chunk, as the real client sends them.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// What all updates have in common.
#[derive(Clone)]
pub(crate) struct Updates {
    file: Bytes,
    /// Of everything before the tail.
    prefix: blake3::Hasher,
    spec: Digest,
    base: Digest,
}

/// One client's update.
pub(crate) struct Update {
    file: Bytes,
    /// In place of the last chunks.
    tail: Bytes,
    start: usize,
    pub(crate) header: UploadHeader,
    pub(crate) digest: Digest,
}

impl Updates {
    pub(crate) fn new(global: &Adapter) -> Self {
        let file = Bytes::from(encode_adapter(global).expect("an adapter"));
        let mut prefix = blake3::Hasher::new();
        prefix.update(&file[..tail_start(file.len())]);
        Self { file, prefix, spec: global.spec().digest(), base: global.digest() }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// The update of a client: a value near the end is moved by less than a learning rate.
    pub(crate) fn of(&self, client: u64) -> Update {
        let start = tail_start(self.file.len());
        let mut tail = self.file[start..].to_vec();
        let place = tail.len() - 4 * (client as usize + 1);
        tail[place..][..4].copy_from_slice(&0.005_f32.to_le_bytes());
        let mut hasher = self.prefix.clone();
        hasher.update(&tail);
        let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        let header = UploadHeader {
            run_id: 1,
            round: 1,
            spec: digest_bytes(self.spec),
            base: digest_bytes(self.base),
            size_bytes: self.bytes(),
            blake3: digest_bytes(digest),
            examples: 20,
            steps: 1,
            train_loss: Some(0.5),
        };
        Update { file: self.file.clone(), tail: tail.into(), start, header, digest }
    }
}

/// Where the last whole chunk begins: from there on there are values alone, enough for sixty thousand clients.
fn tail_start(bytes: usize) -> usize {
    (bytes / CHUNK_BYTES - 1) * CHUNK_BYTES
}

impl Update {
    /// Header and chunks, made as they are asked for.
    pub(crate) fn messages(self) -> impl Iterator<Item = UploadMessage> + Send + 'static {
        let chunks = (0..self.file.len()).step_by(CHUNK_BYTES).map(move |offset| {
            let end = self.file.len().min(offset + CHUNK_BYTES);
            let is_own = offset >= self.start;
            let data = if is_own {
                self.tail.slice(offset - self.start..end - self.start)
            } else {
                self.file.slice(offset..end)
            };
            Kind::Chunk(Chunk { offset: offset as u64, crc32c: crc32c::crc32c(&data), data })
        });
        std::iter::once(Kind::Header(self.header)).chain(chunks).map(|kind| UploadMessage { kind: Some(kind) })
    }
}
