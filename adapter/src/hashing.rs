//! Digests of many small pieces, at the speed of one large piece.

use crate::Digest;

/// Bytes hashed at a time: what is collected is still in the first-level cache when it is hashed.
///
/// BLAKE3 is a binary tree over chunks of 1 KiB, and takes many side by side only in whole subtrees. So pieces are cut where
/// a block ends: blocks of a power of two, one after the other, are such subtrees.
const BLOCK_BYTES: usize = 16 * 1024;

/// Collects pieces; the digest is that of all their bytes in order, wherever one piece ends.
#[derive(Debug)]
pub(crate) struct DigestWriter {
    hasher: blake3::Hasher,
    pending: Vec<u8>,
}

impl DigestWriter {
    /// A writer that expects about this many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let pending = Vec::with_capacity(BLOCK_BYTES.min(bytes as usize));
        Self { hasher: blake3::Hasher::new(), pending }
    }

    /// Adds a piece.
    pub(crate) fn write(&mut self, mut piece: &[u8]) {
        while self.pending.len() + piece.len() >= BLOCK_BYTES {
            if self.pending.is_empty() {
                let (blocks, rest) = piece.split_at(piece.len() - piece.len() % BLOCK_BYTES);
                self.hasher.update(blocks);
                piece = rest;
            } else {
                let (last, rest) = piece.split_at(BLOCK_BYTES - self.pending.len());
                self.pending.extend_from_slice(last);
                self.hasher.update(&self.pending);
                self.pending.clear();
                piece = rest;
            }
        }
        self.pending.extend_from_slice(piece);
    }

    /// The digest of everything written.
    pub(crate) fn finish(mut self) -> Digest {
        self.hasher.update(&self.pending);
        Digest::from_hasher(&self.hasher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_pieces_end_does_not_matter() {
        let bytes: Vec<u8> = (0..500_000_u32).map(|index| (index % 251) as u8).collect();
        for size in [1_000, 4_096, BLOCK_BYTES, BLOCK_BYTES + 1, 400_000] {
            let mut writer = DigestWriter::new(0);
            bytes.chunks(size).for_each(|piece| writer.write(piece));
            assert_eq!(writer.finish(), Digest::of(&bytes), "pieces of {size}");
        }
    }
}
