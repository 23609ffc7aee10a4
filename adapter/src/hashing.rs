//! Digests of many small pieces, at the speed of one large piece.

use crate::Digest;

/// Bytes hashed at a time: BLAKE3 takes many chunks of 1 KiB side by side, and one piece alone is often only a few.
const BLOCK_BYTES: usize = 128 * 1024;

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
    pub(crate) fn write(&mut self, piece: &[u8]) {
        if self.pending.len() + piece.len() > BLOCK_BYTES {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        if piece.len() > BLOCK_BYTES {
            self.hasher.update(piece);
        } else {
            self.pending.extend_from_slice(piece);
        }
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
        for size in [1_000, 4_096, 131_072, 131_073, 400_000] {
            let mut writer = DigestWriter::new(0);
            bytes.chunks(size).for_each(|piece| writer.write(piece));
            assert_eq!(writer.finish(), Digest::of(&bytes), "pieces of {size}");
        }
    }
}
