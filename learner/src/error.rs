//! Everything that can go wrong between a model directory and a trained adapter.

use std::path::PathBuf;

use fedlora_adapter::{AdapterError, ClientId, RoundId};
use fedlora_privacy::PrivacyError;

use crate::{data::DataError, device::DeviceError, hub::HubError, model::WeightsError};

/// Why a model, a tokenizer or a device could not be used, or why training stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnerError {
    /// An adapter that does not match its specification.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Data that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A private plan for a client that was made without samples and noise: an error of this crate, which must not train.
    #[error("private training without a source of noise")]
    NoPrivacy,
    /// Users are to be protected, but nothing says which rows are whose.
    #[error("privacy protects users, but the data do not say whose each row is: set data.user-column")]
    NoUsers,
    /// Training that cannot be done as privately as it was asked for.
    #[error("private training")]
    Privacy(#[from] PrivacyError),
    /// A model that cannot be brought here.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A device that cannot be used or failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Weights that cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file cannot be read or written.
    #[error("cannot access {}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not the JSON it should be.
    #[error("{}: not valid JSON of the expected form", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// The parser's reason.
        #[source]
        source: serde_json::Error,
    },
    /// A model configuration that asks for something this crate does not compute.
    #[error("{}: {key} is {found}, expected {expected}", file.display())]
    Config {
        /// The configuration file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// A tokenizer file that cannot be used.
    #[error("{}: not a usable tokenizer: {reason}", file.display())]
    Tokenizer {
        /// The tokenizer file.
        file: PathBuf,
        /// The tokenizer library's words.
        reason: String,
    },
    /// A tokenizer that belongs to another model.
    #[error(
        "{}: this tokenizer has {tokens} tokens, the model {vocabulary} token embeddings: it is another model's",
        file.display()
    )]
    Vocabulary {
        /// The tokenizer file.
        file: PathBuf,
        /// Its largest token id plus one.
        tokens: usize,
        /// Rows of the model's embedding.
        vocabulary: usize,
    },
    /// A tokenizer whose directory does not say which token ends a sequence.
    #[error(
        "{}: no token ends a sequence: expected eos_token in tokenizer_config.json or eos_token_id in config.json beside it",
        file.display()
    )]
    NoEnd {
        /// The tokenizer file.
        file: PathBuf,
    },
    /// A chat template that is missing or cannot be applied.
    #[error("{}: chat template: {reason}", directory.display())]
    ChatTemplate {
        /// The model directory.
        directory: PathBuf,
        /// The template engine's words.
        reason: String,
    },
    /// Sequences beyond the positions that a model knows.
    #[error("max-length is {max_length}, the model was made for at most {longest} tokens")]
    TooLong {
        /// `max-length`.
        max_length: usize,
        /// Positions of the model.
        longest: usize,
    },
    /// A text that the tokenizer refused.
    #[error("cannot tokenize a text of {bytes} bytes: {reason}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// The tokenizer library's words.
        reason: String,
    },
    /// Tokens that the tokenizer cannot make a text of.
    #[error("cannot make a text of {tokens} tokens: {reason}")]
    Decode {
        /// Number of tokens.
        tokens: usize,
        /// The tokenizer library's words.
        reason: String,
    },
    /// A setting of generation without a meaning.
    #[error("generation: {key} is {found}, expected {expected}")]
    Generation {
        /// The setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// What is possible.
        expected: String,
    },
    /// Nothing to be asked of a language model.
    #[error(
        "exact-match needs prompts with responses, and there are none: remove the section, or name a response-column"
    )]
    NoQuestions,
    /// A response without an answer of the form that is asked for.
    #[error(
        "exact-match: there is no number in the response {response:?}: set exact-match.answer = \"whole-string\", or correct \
         the row"
    )]
    NoAnswer {
        /// The response, or its beginning.
        response: String,
    },
    /// A model that predicts labels and was asked for text.
    #[error("the model has no output layer for tokens, so it cannot write text")]
    NotADecoder,
    /// Target modules that name no linear module of the model.
    #[error("target module {target} matches none of the model's linear modules ({})", known.join(", "))]
    TargetModule {
        /// The target.
        target: String,
        /// Last parts of the names that would match.
        known: Vec<String>,
    },
    /// A string by itself in place of target modules, an expression, that names no linear module of the model.
    #[error(
        "target_modules = \"{expression}\" is an expression for whole names and matches none of the model's linear modules \
         (such as {example}); last parts of names ({}) belong in a list", known.join(", ")
    )]
    TargetExpression {
        /// The expression.
        expression: String,
        /// The name of one module.
        example: String,
        /// Last parts of the names in the model.
        known: Vec<String>,
    },
    /// An expression that cannot be used.
    #[error("{key} = \"{text}\" is no expression that can be used; what Python finds by going back is not supported")]
    ModulePattern {
        /// The key of the configuration.
        key: &'static str,
        /// What it says.
        text: String,
        /// What is wrong with it.
        #[source]
        source: Box<regex::Error>,
    },
    /// Numbers of layers beside an expression, which names whole modules; or a pattern without numbers.
    #[error(
        "layers_pattern needs layers_to_transform, and both need target_modules as a list: an expression says its layers \
         itself"
    )]
    LayersOfExpression,
    /// An adapted module that the model does not have, or has with other widths.
    #[error("the adapter's module {module} is {found:?} (d_in, d_out), the model has {expected:?}")]
    AdaptedModule {
        /// The module.
        module: String,
        /// Widths in the model, if it has the module.
        expected: Option<(usize, usize)>,
        /// Widths in the adapter.
        found: (usize, usize),
    },
    /// A head tensor that is missing or has no use in the model.
    #[error("the adapter's head is {found:?}, expected {} over {hidden} features", expected.join(", "))]
    Head {
        /// Width of the features that the head sees.
        hidden: usize,
        /// Names of the tensors that the model's head has.
        expected: Vec<String>,
        /// Names and shapes found.
        found: Vec<(String, Vec<usize>)>,
    },
    /// A head in the adapter of a model that predicts tokens by its own output layer.
    #[error("the adapter's head is {found:?}, expected none: the model predicts tokens by its own output layer")]
    HeadOfDecoder {
        /// Names and shapes found.
        found: Vec<(String, Vec<usize>)>,
    },
    /// No adapter to compute with.
    #[error("there are no adapters to group")]
    NoAdapters,
    /// Adapters that cannot train in one pass because their specifications differ.
    #[error("adapter {index} has another specification than the first of its group")]
    MixedSpecs {
        /// Position in the group.
        index: usize,
    },
    /// A vision model whose sizes do not fit together.
    #[error("vision model: {key} is {found}, expected {expected}")]
    VisionConfig {
        /// The setting.
        key: &'static str,
        /// Its value.
        found: usize,
        /// What is needed.
        expected: &'static str,
    },
    /// Data of another kind than the model reads.
    #[error("the model reads {reads}, but data.path holds {found}: choose data or a model of the other kind")]
    OtherData {
        /// What the model reads.
        reads: &'static str,
        /// What the data are.
        found: &'static str,
    },
    /// A layer whose inputs vary too little for EVA.
    #[error(
        "the inputs of {module} vary in {found} directions, fewer than its rank of {rank}: name more data or more \
         examples in lora.eva_config"
    )]
    FewInputs {
        /// The layer.
        module: String,
        /// Directions wanted.
        rank: usize,
        /// Directions found.
        found: usize,
    },
    /// Nothing to train on or to evaluate.
    #[error("there are no examples")]
    NoExamples,
    /// A row number beyond the data set.
    #[error("row {row} is outside of the data set of {rows} rows")]
    RowOutOfRange {
        /// The row, from 0.
        row: u32,
        /// Rows of the data set.
        rows: usize,
    },
    /// A label beyond the head.
    #[error("label {label} is outside of the head of {labels} labels")]
    LabelOutOfRange {
        /// The label, from 0.
        label: u32,
        /// Rows of the head.
        labels: usize,
    },
    /// A client without examples.
    #[error("{client} has no examples")]
    EmptyClient {
        /// The client.
        client: ClientId,
    },
    /// A batch size of zero.
    #[error("the batch size is 0, expected at least 1")]
    BatchSize,
    /// A loss or gradient that is not a finite number.
    #[error("{client} diverged in {round} at step {step}: its loss or gradient is not finite")]
    Diverged {
        /// The client.
        client: ClientId,
        /// The round.
        round: RoundId,
        /// Optimiser steps taken before.
        step: u64,
    },
    /// A loss of central training that is not a finite number.
    #[error("pretraining diverged at step {step}: the loss is not finite; try a smaller learning rate")]
    PretrainingDiverged {
        /// The step, from 1.
        step: usize,
    },
    /// Training was asked to end before its last step.
    #[error("training was cancelled")]
    Cancelled,
    /// Training panicked; other clients go on.
    #[error("training panicked: {0}")]
    Panicked(String),
}
