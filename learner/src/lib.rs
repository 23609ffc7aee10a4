//! Local training: frozen pretrained models, adapters in them, data to train on, and nothing of rounds or networks.
//!
//! - [`ModelConfig`] finds a model, in a directory or on the Hugging Face [`Hub`];
//! - [`load_pretrained`] reads a Hugging Face directory into a frozen [`Model`] and its [`Preprocessor`];
//! - [`data`] reads files into a [`Dataset`];
//! - [`LocalTrainer`] trains clients' adapters, several in one pass where that is faster ([`GroupedAdapter`]);
//! - [`evaluate`](evaluate()) says how good an adapter is;
//! - [`generate`](generate()) continues a text with a language model.
//!
//! On the CPU everything is deterministic to the bit, whatever the number of threads and whichever clients train side
//! by side: work is shared out by rows, sequences and heads, never along a sum.

#[cfg(test)]
extern crate self as fedlora_learner;

mod batch;
pub mod data;
mod device;
mod dropout;
mod error;
mod eva;
mod evaluate;
mod generate;
mod grouped;
mod hub;
mod images;
mod model;
pub mod ops;
mod panics;
#[cfg(test)]
mod parity;
mod preprocessor;
mod tokenizer;
mod toy;
mod train;
mod trainer;
mod watch;

pub use batch::{Batch, Inputs, NextTokens, Targets, Tokens};
pub use burn::tensor::Device;
pub use data::{DataConfig, DataError, Dataset, LoadedData, LoadedImages, LoadedPassages, LoadedText};
pub use device::{
    ChosenDevice, DEVICE_NAMES, DeviceError, DeviceInfo, DeviceKind, choose_device, device, devices, missing_backends,
};
pub use dropout::DropoutMasks;
pub use error::LearnerError;
pub use eva::{EvaConfig, EvaError, PublicRows, input_directions};
pub use evaluate::{AnswerForm, Evaluation, EvaluationPlan, ExactMatch, Questions, evaluate};
pub use generate::{Generation, generate, generate_all};
pub use grouped::{GroupedAdapter, Parameter, ParameterKey};
pub use hub::{Hub, HubError, HubName, HubSettings};
pub use images::{Image, ImageProcessor};
pub use model::{
    Activation, BaseModel, Bert, BertConfig, Decoder, FrozenLayers, HEAD_BIAS, HEAD_WEIGHT, HeadForm, KeyValueCache,
    Llama, Mixer, MixerConfig, Model, ModelConfig, Pooling, Precision, PretrainedVision, Pretraining, Progress,
    TimmVitConfig, VisionConfig, Vit, VitConfig, WeightsError, load_pretrained, pretrain, random_pretrained,
    selected_modules, target_modules,
};
pub use preprocessor::Preprocessor;
pub use tokenizer::TextTokenizer;
pub use toy::ToyTrainer;
pub use train::{LocalTrainer, Randomness, learning_rate, noise_mode, progress};
pub use trainer::{Job, LocalOutcome, Trainer};
pub use watch::Watch;
