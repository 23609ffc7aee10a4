//! Which modules of a base model an adapter wraps, in the words of PEFT's `LoraConfig`.
//!
//! What the words mean is for whoever has a model to say: the crate that trains matches them against its modules.

use serde::{Deserialize, Serialize};

/// Modules by name: a list, or one string, which is a regular expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModulePatterns {
    /// A regular expression for whole names; as `target_modules` also `all-linear`.
    Expression(String),
    /// Whole names, or last parts of names behind a dot.
    Names(Vec<String>),
}

/// Numbers of layers: a list, or one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LayerNumbers {
    /// One layer.
    One(usize),
    /// Several layers; an empty list stands for all.
    Several(Vec<usize>),
}

/// The modules to adapt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSelection {
    /// Those to adapt.
    pub target_modules: ModulePatterns,
    /// Those of them not to adapt.
    pub exclude_modules: Option<ModulePatterns>,
    /// Only those in layers of these numbers, counted from 0.
    pub layers_to_transform: Option<LayerNumbers>,
    /// What precedes a layer's number in module names, such as `layer`.
    pub layers_pattern: Option<ModulePatterns>,
}

impl ModulePatterns {
    /// The words as a list: one expression or several names.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::Expression(expression) => std::slice::from_ref(expression),
            Self::Names(names) => names,
        }
    }
}

impl LayerNumbers {
    /// The numbers as a list.
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Several(numbers) => numbers,
        }
    }
}

impl From<ModulePatterns> for ModuleSelection {
    /// All that the patterns name.
    fn from(target_modules: ModulePatterns) -> Self {
        Self { target_modules, exclude_modules: None, layers_to_transform: None, layers_pattern: None }
    }
}
