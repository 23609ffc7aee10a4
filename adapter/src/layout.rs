//! What the bytes of an update file must look like, told before they are all there: a receiver can refuse a file by its
//! size and its header, and never takes in a body that nobody could accept.

use crate::{
    AdapterError, AdapterSpec, AdapterUpdate, Directive,
    codec::{self, Expected},
    spec::product,
};

/// Bytes in front of the header: its length.
const LENGTH_BYTES: u64 = 8;

/// Size and header that an update file under one specification and directive may have.
#[derive(Debug, Clone)]
pub struct UpdateLayout {
    expected: Expected,
    value_bytes: u64,
    header_limit: u64,
}

impl UpdateLayout {
    /// The layout of updates under `directive`.
    #[must_use]
    pub fn new(spec: &AdapterSpec, directive: Directive) -> Self {
        let expected = AdapterUpdate::expected(spec, directive);
        // Saturating: a specification that was checked never overflows, and of another one nothing is small enough.
        let values = expected.values().map(|shape| product(shape).unwrap_or(usize::MAX) as u64);
        let value_bytes = values.fold(0, u64::saturating_add).saturating_mul(size_of::<f32>() as u64);
        let header_limit = codec::header_limit(&expected) as u64;
        Self { expected, value_bytes, header_limit }
    }

    /// Bytes of the smallest file that holds the values.
    #[must_use]
    pub fn min_bytes(&self) -> u64 {
        self.value_bytes.saturating_add(LENGTH_BYTES)
    }

    /// Bytes of the largest file that is accepted: the values and the longest header.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.min_bytes().saturating_add(self.header_limit)
    }

    /// Bytes in front of the values, once the first eight bytes of the file are known.
    ///
    /// # Errors
    /// [`AdapterError::TooLarge`] for a header that is longer than any honest one.
    pub fn head_bytes(&self, first: [u8; 8]) -> Result<usize, AdapterError> {
        let found = u64::from_le_bytes(first);
        if found > self.header_limit {
            return Err(AdapterError::TooLarge { what: "header", found, limit: self.header_limit });
        }
        Ok((found + LENGTH_BYTES) as usize)
    }

    /// Checks everything but the values, from the first bytes of a file that has `length` bytes in the end.
    ///
    /// # Errors
    /// As [`crate::UpdateFile::open`], but for values that are not finite; a `head` that ends within the header.
    pub fn check(&self, head: &[u8], length: u64) -> Result<(), AdapterError> {
        codec::layout(head, length, &self.expected).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{Adapter, AdapterKind, Factors, HeadPolicy, ModuleName, ModuleSpec, encode};

    const DIRECTIVE: Directive =
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Frozen };

    fn file() -> (UpdateLayout, Vec<u8>) {
        let modules = BTreeMap::from([(ModuleName::new("query"), ModuleSpec::new(3, 4))]);
        let (kind, head) = (AdapterKind::Lora, BTreeMap::new());
        let spec = AdapterSpec { kind, rank: 2, alpha: 2.0, use_rslora: false, projection_seed: 0, modules, head };
        let adapter = Adapter::zeros(Arc::new(spec)).expect("usable");
        let update = AdapterUpdate::select(&adapter, DIRECTIVE);
        let tensors = update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
        (UpdateLayout::new(adapter.spec(), DIRECTIVE), encode(tensors).expect("small"))
    }

    #[test]
    fn an_honest_file_is_within_the_bounds_and_its_head_is_enough() {
        let (layout, bytes) = file();
        let length = bytes.len() as u64;
        assert!((layout.min_bytes()..=layout.max_bytes()).contains(&length));
        let first = *bytes.first_chunk().expect("long enough");
        let head = layout.head_bytes(first).expect("honest");
        assert_eq!((bytes.len() - head) as u64, layout.min_bytes() - 8);
        layout.check(&bytes[..head], length).expect("honest");
        layout.check(&bytes[..head - 1], length).expect_err("cut short");
        layout.check(&bytes[..head], length + 4).expect_err("values that nobody asked for");
    }

    #[test]
    fn a_header_that_no_adapter_needs_is_refused_by_its_length() {
        let (layout, _) = file();
        let error = layout.head_bytes(u64::MAX.to_le_bytes()).expect_err("too long");
        assert!(matches!(error, AdapterError::TooLarge { what: "header", found: u64::MAX, .. }));
    }
}
