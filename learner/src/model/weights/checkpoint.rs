//! Weights in safetensors files: one file, or shards with an index, in F32, F16 or BF16.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, Tensor};
use half::{bf16, f16};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorInfo},
};
use serde::Deserialize;

use super::{Weights, WeightsError, upload};
use crate::LearnerError;

/// All weights in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// Which weight is in which of several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// What models with a task's head put before the names of the encoder's weights.
const PREFIXES: [&str; 4] = ["bert.", "roberta.", "distilbert.", "vit."];

/// All weights files of a model directory, in memory.
#[derive(Debug)]
pub(in crate::model) struct Checkpoint {
    files: Vec<WeightsFile>,
    /// The file to name when a weight is in none of them.
    listing: PathBuf,
    device: Device,
}

#[derive(Debug)]
struct WeightsFile {
    path: PathBuf,
    bytes: Vec<u8>,
    metadata: Metadata,
    /// Position of the first value.
    start: usize,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Reads `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// No such file; a file that cannot be read or is cut off; an index that points outside of its directory.
    pub(in crate::model) fn open(directory: &Path, device: &Device) -> Result<Self, LearnerError> {
        let (listing, files) = listed(directory)?;
        let files = files.into_iter().map(WeightsFile::open).collect::<Result<_, _>>()?;
        Ok(Self { files, listing, device: device.clone() })
    }

    /// The file that holds a weight of this name, bare or behind a prefix, and its name there.
    fn find(&self, name: &str) -> Option<(&WeightsFile, String, &TensorInfo)> {
        let names = [""].into_iter().chain(PREFIXES).map(|prefix| format!("{prefix}{name}"));
        let find = |name: String| {
            let (file, info) = self.files.iter().find_map(|file| Some((file, file.metadata.info(&name)?)))?;
            Some((file, name, info))
        };
        names.into_iter().find_map(find)
    }

    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let Some((file, name, info)) = self.find(name) else {
            let (file, tensor) = (self.listing.clone(), name.to_owned());
            return Err(WeightsError::MissingTensor { file, tensor, expected: shape.to_vec() });
        };
        if info.shape != shape {
            let (expected, found) = (shape.to_vec(), info.shape.clone());
            return Err(WeightsError::TensorShape { file: file.path.clone(), tensor: name, expected, found });
        }
        // Bounds: the metadata was checked against the file's length when it was opened.
        let bytes = &file.bytes[file.start + info.data_offsets.0..file.start + info.data_offsets.1];
        widen(bytes, info.dtype).ok_or_else(|| WeightsError::TensorType {
            file: file.path.clone(),
            tensor: name,
            found: info.dtype.to_string(),
        })
    }
}

impl Weights for Checkpoint {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, LearnerError> {
        Ok(upload(self.values(name, &shape)?, shape, &self.device))
    }
}

impl WeightsFile {
    fn open(path: PathBuf) -> Result<Self, LearnerError> {
        let bytes = fs::read(&path).map_err(|source| LearnerError::Io { file: path.clone(), source })?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|source| WeightsError::Safetensors { file: path.clone(), source })?;
        Ok(Self { start: header + size_of::<u64>(), path, bytes, metadata })
    }
}

/// The files that hold a directory's weights, and the index if there is one.
pub(in crate::model) fn weights_files(directory: &Path) -> Result<Vec<PathBuf>, LearnerError> {
    let (listing, mut files) = listed(directory)?;
    files.push(listing);
    files.dedup();
    Ok(files)
}

/// The file to name when a weight is missing, and the files that hold the weights.
fn listed(directory: &Path) -> Result<(PathBuf, Vec<PathBuf>), LearnerError> {
    let (single, index) = (directory.join(SINGLE), directory.join(INDEX));
    if single.exists() {
        return Ok((single.clone(), vec![single]));
    }
    if !index.exists() {
        return Err(WeightsError::NoFile { directory: directory.into() }.into());
    }
    let files = shards(&index)?.into_iter().map(|name| directory.join(name)).collect();
    Ok((index, files))
}

/// The distinct files of an index beside it, in the order of their names.
pub(crate) fn shards(index: &Path) -> Result<Vec<String>, LearnerError> {
    let text = fs::read_to_string(index).map_err(|source| LearnerError::Io { file: index.into(), source })?;
    let parsed: Index =
        serde_json::from_str(&text).map_err(|source| LearnerError::Json { file: index.into(), source })?;
    let outside = |file: &str| Path::new(file).file_name().is_none_or(|name| name != file);
    if let Some((tensor, found)) = parsed.weight_map.iter().find(|(_, file)| outside(file)) {
        let (tensor, found) = (tensor.clone(), found.clone());
        return Err(WeightsError::ShardPath { file: index.into(), tensor, found }.into());
    }
    let mut names: Vec<String> = parsed.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Little-endian values as f32; none for other element types.
fn widen(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let halves = || bytes.as_chunks::<2>().0.iter().copied();
    match dtype {
        Dtype::F32 => Some(bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect()),
        Dtype::F16 => Some(halves().map(|value| f16::from_le_bytes(value).to_f32()).collect()),
        Dtype::BF16 => Some(halves().map(|value| bf16::from_le_bytes(value).to_f32()).collect()),
        _ => None,
    }
}
