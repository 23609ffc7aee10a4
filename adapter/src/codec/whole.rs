//! A complete adapter as one safetensors file: how the global adapter travels and is kept.
//!
//! The names are PEFT's, as in updates. What lies in it is everything, whichever part a round's clients take, so that
//! one file serves them all.

use std::{collections::BTreeMap, sync::Arc};

use super::{Expected, decode, encode, names};
use crate::{
    Adapter, AdapterError, AdapterSpec, AdapterUpdate, Digest, Directive, Factors, HeadPolicy, LoraFactors, Side,
};

/// Under which an update is a whole adapter.
const EVERYTHING: Directive =
    Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Shared };

/// Writes a whole adapter as a safetensors file.
///
/// # Errors
/// What the `safetensors` crate refuses to write.
pub fn encode_adapter(adapter: &Adapter) -> Result<Vec<u8>, AdapterError> {
    let kind = adapter.spec().kind;
    let sides = [Side::A, Side::B];
    let factors = adapter
        .modules()
        .iter()
        .flat_map(|(name, factors)| sides.map(|side| (names::factor(kind, name, side), factors.side(side).as_ref())));
    let head = adapter.head().iter().map(|(name, tensor)| (names::extra(name), tensor.as_ref()));
    let tensors: BTreeMap<_, _> = factors.chain(head).collect();
    encode(tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor)))
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
    let adapter = Adapter::new(Arc::clone(spec), modules, head)?;
    let found = adapter.digest();
    if found != digest {
        return Err(AdapterError::WrongContent { expected: digest, found });
    }
    Ok(adapter)
}
