//! What a base model looks like to those who never load it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, FirstValues, HeadSpec, ModuleName, ModuleSpec};

/// What a base model looks like to a coordinator that never loads it; `fedlora-client describe` writes it as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDescription {
    /// `base_model_name_or_path` of exported adapters.
    pub base_model: String,
    /// PEFT's `task_type`, where `transformers` has the model.
    pub task_type: Option<String>,
    /// Digest of the model's files; clients with other files are turned away.
    pub digest: Digest,
    /// The modules that the configuration adapts.
    pub modules: BTreeMap<ModuleName, ModuleSpec>,
    /// The fully trained tensors.
    pub head: HeadSpec,
    /// Class names in the order of the head's rows.
    pub labels: Vec<String>,
    /// What the first adapter takes from the frozen weights, for kinds that take something: see
    /// [`AdapterSpec::first_values`](crate::AdapterSpec::first_values).
    #[serde(default, skip_serializing_if = "FirstValues::is_empty")]
    pub first_values: FirstValues,
}
