//! The vocabulary of federated LoRA: what an adapter is, which part of it travels, and how it is written down.
//!
//! Every other crate speaks in these types. Nothing here trains, aggregates, waits or talks to a network; the only
//! I/O is reading and writing adapter files. An [`Adapter`] that exists matches its [`AdapterSpec`]: names, shapes and
//! finiteness are checked where it is made, so that nobody has to check them again.
//!
//! Conventions: a frozen weight `W0` is `d_out x d_in`, `A` is `r x d_in`, `B` is `d_out x r` and the adapted weight
//! is `W0 + s·B·A`. All matrices are stored row-major, in memory as on disk.

mod adapter;
mod codec;
mod description;
mod directive;
mod error;
mod factors;
mod file;
mod frozen;
mod hashing;
mod ids;
mod initial;
mod kinds;
mod layout;
mod lora_xs;
mod mapped;
mod patterns;
mod peft;
mod plan;
mod privacy;
mod seed;
mod selection;
mod source;
mod spec;
mod tensor;
mod update;
mod vera;

pub use adapter::{Adapter, DistanceSum};
pub use codec::{AdapterWriter, WrittenAdapter, decode, decode_adapter, encode, encode_adapter, map_adapter, names};
pub use description::ModelDescription;
pub use directive::{Directive, Factors, HeadPolicy, Side};
pub use error::AdapterError;
pub use factors::LoraFactors;
pub use file::UpdateFile;
pub use frozen::{leading_qr, leading_svd, residual_weight, row_lengths};
pub use ids::{ClientId, Digest, RoundId};
pub use initial::FirstValues;
pub use kinds::{Averaging, KINDS, KindRow};
pub use layout::UpdateLayout;
pub use patterns::ModuleValues;
pub use peft::{PeftOptions, read_peft, write_peft};
pub use plan::{LocalHyperparameters, LocalWork, Optimizer, RoundPlan, Schedule};
pub use privacy::{GradientClipping, NoiseKind, NoiseLevel, PrivacyTerms, PrivacyTermsError, ProtectedUnit};
pub use seed::{Purpose, Seed};
pub use selection::{LayerNumbers, ModulePatterns, ModuleSelection};
pub use source::{FileTensor, TensorSource, UpdateSource};
pub use spec::{AdapterKind, AdapterSpec, HeadSpec, ModuleName, ModuleSpec};
pub use tensor::{Tensor, TensorRef};
pub use update::AdapterUpdate;
pub use vera::VeraProjections;
