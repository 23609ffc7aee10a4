//! Adapters as safetensors bytes, read against an expectation.
//!
//! The reader knows which names and shapes it will accept before it looks at a value, so nothing that a peer declares
//! decides how much is allocated: the header and the whole file are bounded by what the expectation needs.

mod mapping;
pub mod names;
mod whole;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorView},
};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

pub use mapping::{WrittenAdapter, map_adapter};
pub(crate) use whole::decode_whole;
pub use whole::{decode_adapter, encode_adapter};
pub use writer::AdapterWriter;

use crate::{AdapterError, Tensor, TensorRef, spec::product};

/// Header bytes allowed per tensor beyond its name and sizes: dtype, offsets and JSON punctuation.
const HEADER_BYTES_PER_TENSOR: usize = 256;
/// Header bytes that one byte of a name may take: `\u0000`.
const HEADER_BYTES_PER_NAME_BYTE: usize = 6;
/// Header bytes that one size of a shape may take: a comma and the digits of `u64::MAX`.
const HEADER_BYTES_PER_SIZE: usize = 21;
/// Header bytes allowed for metadata and padding.
const HEADER_BYTES: usize = 4096;
/// Widest element type that is read (F64 is refused, so 4).
const BYTES_PER_VALUE: usize = 4;

/// Names and shapes that a reader accepts.
pub(crate) type Expected = BTreeMap<String, Vec<usize>>;

/// Writes tensors as one safetensors file, in name order.
///
/// # Errors
/// What the `safetensors` crate refuses to write, such as an overflowing size.
pub fn encode<'a>(tensors: impl IntoIterator<Item = (&'a str, TensorRef<'a>)>) -> Result<Vec<u8>, AdapterError> {
    let views = tensors
        .into_iter()
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(tensor.values);
            Ok((name, TensorView::new(Dtype::F32, tensor.shape.to_vec(), bytes)?))
        })
        .collect::<Result<Vec<_>, AdapterError>>()?;
    Ok(safetensors::serialize(views, None)?)
}

/// Reads exactly the expected tensors from an F32 safetensors file and checks that every value is finite.
///
/// # Errors
/// Names the first tensor that is missing, unexpected, duplicate, misshapen, of another type or not finite; bytes that
/// are no safetensors file; more bytes than the expectation needs.
pub fn decode(bytes: &[u8], expected: &Expected) -> Result<BTreeMap<String, Tensor>, AdapterError> {
    let file = open(bytes, expected)?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in expected {
        let view = file.tensor(name).map_err(|_| AdapterError::MissingTensor { name: name.clone() })?;
        if view.dtype() != Dtype::F32 {
            return Err(AdapterError::UnsupportedDtype { name: name.clone(), dtype: view.dtype().to_string() });
        }
        let tensor = Tensor::new(view.shape().to_vec(), f32_values(view.data()))?;
        tensor.as_ref().check(name, shape)?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

/// Parses the header within the bounds of the expectation and compares names.
pub(crate) fn open<'a>(bytes: &'a [u8], expected: &Expected) -> Result<SafeTensors<'a>, AdapterError> {
    refuse_oversize(bytes.len() as u64, expected)?;
    refuse_duplicates(header(bytes, header_limit(expected))?)?;
    let file = SafeTensors::deserialize(bytes)?;
    if let Some(name) = file.names().into_iter().find(|name| !expected.contains_key(*name)) {
        return Err(AdapterError::UnexpectedTensor { name: name.to_owned() });
    }
    Ok(file)
}

/// Shapes and byte positions of exactly the expected tensors, from the first bytes of a file of `length` bytes.
pub(crate) fn layout(
    head: &[u8],
    length: u64,
    expected: &Expected,
) -> Result<BTreeMap<String, (Vec<usize>, u64)>, AdapterError> {
    refuse_oversize(length, expected)?;
    let header = header(head, header_limit(expected))?;
    refuse_duplicates(header)?;
    // Not `SafeTensors::read_metadata`: it wants the whole file in memory.
    let metadata: Metadata = serde_json::from_slice(header).map_err(AdapterError::Header)?;
    let values_start = header.len() as u64 + 8;
    if metadata.data_len() as u64 + values_start != length {
        return Err(AdapterError::Safetensors(safetensors::SafeTensorError::MetadataIncompleteBuffer));
    }
    let tensors = metadata.tensors();
    if let Some(name) = tensors.keys().find(|name| !expected.contains_key(*name)) {
        return Err(AdapterError::UnexpectedTensor { name: name.clone() });
    }
    let place = |(name, shape): (&String, &Vec<usize>)| {
        let info = tensors.get(name).ok_or_else(|| AdapterError::MissingTensor { name: name.clone() })?;
        if info.dtype != Dtype::F32 {
            return Err(AdapterError::UnsupportedDtype { name: name.clone(), dtype: info.dtype.to_string() });
        }
        if info.shape != *shape {
            let (expected, found) = (shape.clone(), info.shape.clone());
            return Err(AdapterError::WrongShape { name: name.clone(), expected, found });
        }
        Ok((name.clone(), (shape.clone(), values_start + info.data_offsets.0 as u64)))
    };
    expected.iter().map(place).collect()
}

/// Largest header, in bytes, that a file of the expected tensors may have.
pub(crate) fn header_limit(expected: &Expected) -> usize {
    let tensor = |(name, shape): (&String, &Vec<usize>)| {
        HEADER_BYTES_PER_TENSOR + HEADER_BYTES_PER_NAME_BYTE * name.len() + HEADER_BYTES_PER_SIZE * shape.len()
    };
    HEADER_BYTES + expected.iter().map(tensor).sum::<usize>()
}

fn refuse_oversize(found: u64, expected: &Expected) -> Result<(), AdapterError> {
    // Saturating: an expectation that nobody checked may ask for more than there is, and then nothing is too large.
    let values = expected.values().map(|shape| product(shape).unwrap_or(usize::MAX));
    let values = values.fold(0, usize::saturating_add);
    let limit = values.saturating_mul(BYTES_PER_VALUE).saturating_add(header_limit(expected) + 8) as u64;
    if found > limit {
        return Err(AdapterError::TooLarge { what: "update", found, limit });
    }
    Ok(())
}

/// The JSON header of a safetensors file, once its declared length is known to be allowed.
pub(crate) fn header(bytes: &[u8], limit: usize) -> Result<&[u8], AdapterError> {
    let too_small = || AdapterError::Safetensors(safetensors::SafeTensorError::HeaderTooSmall);
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(too_small)?;
    let length = u64::from_le_bytes(*length);
    if length > limit as u64 {
        return Err(AdapterError::TooLarge { what: "header", found: length, limit: limit as u64 });
    }
    let invalid = || AdapterError::Safetensors(safetensors::SafeTensorError::InvalidHeaderLength);
    rest.get(..length as usize).ok_or_else(invalid)
}

/// A JSON map keeps the last of two equal keys; two readers could then see two different adapters in one file.
pub(crate) fn refuse_duplicates(header: &[u8]) -> Result<(), AdapterError> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of tensors")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut seen = BTreeSet::new();
            let mut duplicate = None;
            while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if seen.contains(&key) {
                    duplicate = Some(key);
                } else {
                    seen.insert(key);
                }
            }
            Ok(duplicate)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(header);
    match json.deserialize_map(Keys).map_err(AdapterError::Header)? {
        Some(name) => Err(AdapterError::DuplicateTensor { name }),
        None => Ok(()),
    }
}

/// Little-endian bytes as values; copies, so that alignment does not matter.
pub(crate) fn f32_values(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().map(|value| f32::from_le_bytes(*value)).collect()
}
