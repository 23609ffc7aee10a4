//! A complete adapter as one safetensors file: how the global adapter travels and is kept.
//!
//! The names are PEFT's, as in updates. What lies in it is everything, whichever part a round's clients take, so that
//! one file serves them all.

use std::{collections::BTreeMap, iter, path::Path, sync::Arc};

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};

use super::{Expected, decode, encode, names};
use crate::{
    Adapter, AdapterError, AdapterSpec, AdapterUpdate, Digest, Directive, Factors, HeadPolicy, LoraFactors, Side,
    Tensor, TensorRef, TensorSource, UpdateFile, UpdateSource,
};

/// Under which an update is a whole adapter.
const EVERYTHING: Directive =
    Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Shared };

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

/// The file of [`encode_adapter`] without a copy of the values: what stands in front of them, and where they are.
#[derive(Debug)]
pub struct AdapterFile<'a> {
    head: Vec<u8>,
    values: Vec<&'a [u8]>,
}

impl<'a> AdapterFile<'a> {
    /// The file of an adapter.
    ///
    /// # Errors
    /// What the `safetensors` crate refuses to write.
    pub fn new(adapter: &'a Adapter) -> Result<Self, AdapterError> {
        let (mut places, mut values, mut end) = (Vec::new(), Vec::new(), 0);
        for (name, tensor) in tensors(adapter) {
            let bytes: &[u8] = bytemuck::cast_slice(tensor.values);
            let data_offsets = (end, end + bytes.len());
            end = data_offsets.1;
            places.push((name, TensorInfo { dtype: Dtype::F32, shape: tensor.shape.to_vec(), data_offsets }));
            values.push(bytes);
        }
        let header = serde_json::to_vec(&Metadata::new(None, places)?).map_err(AdapterError::Header)?;
        // Values begin at a multiple of eight bytes.
        let length = header.len().next_multiple_of(8);
        let mut head = (length as u64).to_le_bytes().to_vec();
        head.extend(header);
        head.resize(size_of::<u64>() + length, b' ');
        Ok(Self { head, values })
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pieces().map(|piece| piece.len() as u64).sum()
    }

    /// The bytes of the file, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        iter::once(self.head.as_slice()).chain(self.values.iter().copied())
    }
}

/// Reads a whole adapter back from its file, tensor by tensor, and checks that it is the one of this digest
/// ([`Adapter::digest`]).
///
/// # Errors
/// As [`UpdateFile::open`]; an adapter of another digest.
pub fn read_adapter(path: &Path, spec: &Arc<AdapterSpec>, digest: Digest) -> Result<Adapter, AdapterError> {
    let file = UpdateFile::open(path, spec, EVERYTHING)?;
    let load = |name: &str, source: Option<TensorSource<'_>>| {
        let source = source.ok_or_else(|| AdapterError::MissingTensor { name: name.to_owned() })?;
        Tensor::new(source.shape().to_vec(), source.load()?.into_owned())
    };
    let mut modules = BTreeMap::new();
    for name in spec.modules.keys() {
        let factor = |side| load(&names::factor(spec.kind, name, side), file.factor(name, side));
        modules.insert(name.clone(), LoraFactors { a: factor(Side::A)?, b: factor(Side::B)? });
    }
    let head = spec.head.keys().map(|name| Ok((name.clone(), load(name, file.extra(name))?)));
    let head = head.collect::<Result<_, AdapterError>>()?;
    same(Adapter::new(Arc::clone(spec), modules, head)?, digest)
}

/// Reads a whole adapter back and checks that it is the one of this digest ([`Adapter::digest`]).
///
/// # Errors
/// As [`decode`]; an adapter of another digest.
pub fn decode_adapter(bytes: &[u8], spec: &Arc<AdapterSpec>, digest: Digest) -> Result<Adapter, AdapterError> {
    let expected: Expected = AdapterUpdate::expected(spec, EVERYTHING);
    let mut tensors = decode(bytes, &expected)?;
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
    same(Adapter::new(Arc::clone(spec), modules, head)?, digest)
}

fn same(adapter: Adapter, expected: Digest) -> Result<Adapter, AdapterError> {
    let found = adapter.digest();
    if found == expected { Ok(adapter) } else { Err(AdapterError::WrongContent { expected, found }) }
}
