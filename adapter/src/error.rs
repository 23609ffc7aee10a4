//! Everything that can be wrong with an adapter, a specification or a file of them.

use std::path::PathBuf;

use crate::{Digest, Side};

/// Why an adapter, an update or a file was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A tensor's values do not fill its shape.
    #[error("shape {shape:?} needs {expected} values, found {found}")]
    WrongLength {
        /// The declared shape.
        shape: Vec<usize>,
        /// Product of the shape.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A tensor has another shape than its specification.
    #[error("tensor {name}: expected shape {expected:?}, found {found:?}")]
    WrongShape {
        /// Tensor name.
        name: String,
        /// Shape by the specification.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A tensor that the specification asks for is not there.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Tensor name.
        name: String,
    },
    /// A tensor that the specification does not know.
    #[error("tensor {name} is not part of the adapter")]
    UnexpectedTensor {
        /// Tensor name.
        name: String,
    },
    /// The same name occurs twice in one file.
    #[error("tensor {name} occurs twice")]
    DuplicateTensor {
        /// Tensor name.
        name: String,
    },
    /// More than one tensor in a file could be the one asked for.
    #[error("tensor {name} is ambiguous: {first} and {second} both fit")]
    AmbiguousTensor {
        /// The name looked for.
        name: String,
        /// One candidate.
        first: String,
        /// Another candidate.
        second: String,
    },
    /// Projections of VeRA that its vectors were not trained with here.
    #[error("tensor {name} is not the projection of seed {seed}")]
    WrongProjection {
        /// Tensor name.
        name: &'static str,
        /// The specification's projection seed.
        seed: u64,
    },
    /// NaN or infinity.
    #[error("tensor {name}: value {index} is not finite")]
    NotFinite {
        /// Tensor name.
        name: String,
        /// Row-major index of the first such value.
        index: usize,
    },
    /// A factor that the directive asks for was not sent, or one that it does not was.
    #[error("module {module}: factor {side} {verb} sent, the directive says otherwise")]
    WrongFactor {
        /// Module name.
        module: String,
        /// The factor.
        side: Side,
        /// `was` or `was not`.
        verb: &'static str,
    },
    /// An element type that cannot be read as f32.
    #[error("tensor {name}: element type {dtype} cannot be read as f32")]
    UnsupportedDtype {
        /// Tensor name.
        name: String,
        /// The type found.
        dtype: String,
    },
    /// More bytes than the specification allows.
    #[error("{what} of {found} bytes is above the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Size found.
        found: u64,
        /// Largest size allowed.
        limit: u64,
    },
    /// Bytes that are no safetensors file.
    #[error("not a valid safetensors file")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// A header that is no JSON object.
    #[error("the safetensors header is not valid")]
    Header(#[source] serde_json::Error),
    /// A pattern of modules that cannot be meant.
    #[error("{key}: {pattern:?} {problem}")]
    ModulePattern {
        /// The patterns' key.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An unusable specification.
    #[error("adapter specification: {0}")]
    Spec(&'static str),
    /// First values that come from the frozen weights, which are not at hand.
    #[error("the first values of a {kind} adapter come from the frozen weights, which are not here")]
    NeedsWeights {
        /// Name of the kind.
        kind: &'static str,
    },
    /// Made for another specification.
    #[error("the update was made for adapter {found}, this one is {expected}")]
    WrongDigest {
        /// Digest of the receiver's specification.
        expected: Digest,
        /// Digest in the message.
        found: Digest,
    },
    /// A valid adapter, but not the one that was asked for.
    #[error("the file holds adapter {found}, expected {expected}")]
    WrongContent {
        /// Digest of the adapter asked for.
        expected: Digest,
        /// Digest of the adapter found.
        found: Digest,
    },
    /// An `adapter_config.json` that says something this crate cannot serve.
    #[error("adapter_config.json: {key} is {found}, expected {expected}")]
    PeftConfig {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Reading or writing a file failed.
    #[error("{path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A problem inside a file.
    #[error("{path}")]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: Box<AdapterError>,
    },
}
