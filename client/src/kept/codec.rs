//! Kept tensors as a safetensors file.

use std::collections::BTreeMap;

use fedlora_adapter::{AdapterError, AdapterSpec, Side, Tensor, decode, encode, names};

use super::Kept;

/// The bytes of a file of kept tensors.
///
/// # Errors
/// As [`encode`].
pub fn encode_kept(kept: &Kept) -> Result<Vec<u8>, AdapterError> {
    encode(kept.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref())))
}

/// Kept tensors of an adapter: some sides of the factors, with or without the head, the first of those sets that fits.
///
/// # Errors
/// As [`decode`], for bytes that are none of those sets.
pub fn decode_kept(bytes: &[u8], spec: &AdapterSpec) -> Result<Kept, AdapterError> {
    let sides: [&[Side]; 4] = [&[Side::A, Side::B], &[Side::B], &[Side::A], &[]];
    let mut outcome = Ok(BTreeMap::new());
    for (sides, with_head) in sides.iter().flat_map(|sides| [(sides, true), (sides, false)]) {
        outcome = decode(bytes, &expected(spec, sides, with_head));
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map(|tensors: BTreeMap<String, Tensor>| Kept { tensors })
}

fn expected(spec: &AdapterSpec, sides: &[Side], with_head: bool) -> BTreeMap<String, Vec<usize>> {
    let mut expected = BTreeMap::new();
    for (name, module) in &spec.modules {
        for side in sides {
            expected.insert(names::factor(spec.kind, name, *side), spec.shape(module, *side));
        }
    }
    if with_head {
        expected.extend(spec.trainable_head().map(|(name, shape)| (names::extra(name), shape.clone())));
    }
    expected
}
