//! What can be wrong with a model's weights files.

use std::path::PathBuf;

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A directory without any known weights file.
    #[error("{} has neither model.safetensors nor model.safetensors.index.json", directory.display())]
    NoFile {
        /// The model directory.
        directory: PathBuf,
    },
    /// Bytes that are no complete safetensors file, as after an interrupted download.
    #[error("{}: not a complete safetensors file", file.display())]
    Safetensors {
        /// The weights file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// An index that places a weight outside its own directory.
    #[error("{}: tensor {tensor} is placed in {found}, expected a file name in the same directory", file.display())]
    ShardPath {
        /// The index file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where the index places it.
        found: String,
    },
    /// A weight that the model needs is not there.
    #[error("{}: tensor {tensor} of shape {expected:?} is missing", file.display())]
    MissingTensor {
        /// The weights file, or the index if it does not list the tensor.
        file: PathBuf,
        /// The tensor's name without any model prefix.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
    },
    /// A weight of another shape than the configuration asks for.
    #[error("{}: tensor {tensor}: expected shape {expected:?}, found {found:?}", file.display())]
    TensorShape {
        /// The weights file.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A weight of an element type that cannot be read as f32.
    #[error("{}: tensor {tensor}: element type {found}, expected F32, F16 or BF16", file.display())]
    TensorType {
        /// The weights file.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The element type found.
        found: String,
    },
}
