//! A complete adapter as one safetensors file: how the global adapter travels and is kept.
//!
//! The names are PEFT's, as in updates. What lies in it is everything, whichever part a round's clients take, so that
//! one file serves them all.

use std::{collections::BTreeMap, sync::Arc};

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};

use super::{Expected, decode, encode, names};
use crate::{Adapter, AdapterError, AdapterSpec, Digest, LoraFactors, Side, TensorRef};

/// Names and shapes of all tensors of an adapter, those included that no update has.
pub(super) fn expected(spec: &AdapterSpec) -> Expected {
    let sides = [Side::A, Side::B];
    let of_module = |(name, module)| sides.map(|side| (names::factor(spec.kind, name, side), spec.shape(module, side)));
    let head = spec.head.iter().map(|(name, shape)| (names::extra(name), shape.clone()));
    spec.modules.iter().flat_map(of_module).chain(head).collect()
}

/// All tensors by the names that they have in the file.
fn tensors(adapter: &Adapter) -> BTreeMap<String, TensorRef<'_>> {
    let kind = adapter.spec().kind;
    let sides = [Side::A, Side::B];
    let factors = adapter
        .modules()
        .iter()
        .flat_map(|(name, factors)| sides.map(|side| (names::factor(kind, name, side), factors.side(side).as_ref())));
    let head = adapter.head().iter().map(|(name, tensor)| (names::extra(name), tensor.as_ref()));
    factors.chain(head).collect()
}

/// Writes a whole adapter as a safetensors file.
///
/// # Errors
/// What the `safetensors` crate refuses to write.
pub fn encode_adapter(adapter: &Adapter) -> Result<Vec<u8>, AdapterError> {
    encode(tensors(adapter).iter().map(|(name, tensor)| (name.as_str(), *tensor)))
}

/// Where one tensor lies in a file.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) start_bytes: u64,
}

impl Place {
    pub(super) fn values(&self) -> usize {
        // A checked specification has a size that fits into memory.
        self.shape.iter().product()
    }

    pub(super) fn bytes(&self) -> u64 {
        size_of::<f32>() as u64 * self.values() as u64
    }
}

/// The file of [`encode_adapter`], told from a checked specification alone: what stands in front of the values, and where
/// each tensor lies, in the order of their names.
pub(super) fn layout(spec: &AdapterSpec) -> Result<(Vec<u8>, Vec<Place>), AdapterError> {
    let (mut infos, mut places, mut end) = (Vec::new(), Vec::new(), 0);
    for (name, shape) in expected(spec) {
        let place = Place { name, shape, start_bytes: end as u64 };
        let data_offsets = (end, end + place.bytes() as usize);
        end = data_offsets.1;
        infos.push((place.name.clone(), TensorInfo { dtype: Dtype::F32, shape: place.shape.clone(), data_offsets }));
        places.push(place);
    }
    let header = serde_json::to_vec(&Metadata::new(None, infos)?).map_err(AdapterError::Header)?;
    // Values begin at a multiple of eight bytes.
    let length = header.len().next_multiple_of(8);
    let mut head = (length as u64).to_le_bytes().to_vec();
    head.extend(header);
    head.resize(size_of::<u64>() + length, b' ');
    for place in &mut places {
        place.start_bytes += head.len() as u64;
    }
    Ok((head, places))
}

/// Reads a whole adapter back and checks that it is the one of this digest ([`Adapter::digest`]).
///
/// # Errors
/// As [`decode`]; an adapter of another digest.
pub fn decode_adapter(bytes: &[u8], spec: &Arc<AdapterSpec>, digest: Digest) -> Result<Adapter, AdapterError> {
    same(decode_whole(bytes, spec)?, digest)
}

/// Reads a whole adapter back, whichever it is.
pub(crate) fn decode_whole(bytes: &[u8], spec: &Arc<AdapterSpec>) -> Result<Adapter, AdapterError> {
    let mut tensors = decode(bytes, &expected(spec))?;
    let mut take = |name: String| tensors.remove(&name).ok_or(AdapterError::MissingTensor { name });
    let mut modules = BTreeMap::new();
    for name in spec.modules.keys() {
        let a = take(names::factor(spec.kind, name, Side::A))?;
        let b = take(names::factor(spec.kind, name, Side::B))?;
        modules.insert(name.clone(), LoraFactors { a, b });
    }
    let mut head = BTreeMap::new();
    for name in spec.head.keys() {
        head.insert(name.clone(), take(names::extra(name))?);
    }
    Adapter::new(Arc::clone(spec), modules, head)
}

fn same(adapter: Adapter, expected: Digest) -> Result<Adapter, AdapterError> {
    let found = adapter.digest();
    if found == expected { Ok(adapter) } else { Err(AdapterError::WrongContent { expected, found }) }
}
