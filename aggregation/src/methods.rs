//! The registry: one row per method. A new method is one new file and one new row; nothing else changes.
//!
//! Most rows trust the clients and weigh them by what they say. The last ones trust a majority only: one vote per client,
//! five votes at least, and a result that no minority can move far from the honest clients, whatever it sends. None of
//! them sees through a lie that stays within the spread of the honest updates; it is then one opinion among many.

mod coordinate_median;
mod fedavg;
mod fedsa_lora;
mod fedsvd;
mod ffa_lora;
mod flexlora;
mod geometric_median;
mod krum;
mod local_only;
mod lora_fair;
mod rolora;
mod trimmed_mean;

use std::fmt;

use fedlora_adapter::AdapterKind;

use crate::{AggregationError, Init, Strategy, parameters};

/// Every method: references first, those that withstand malicious clients last.
pub const METHODS: &[Method] = &[
    local_only::METHOD,
    fedavg::METHOD,
    ffa_lora::METHOD,
    ffa_lora::ORTHONORMAL,
    fedsa_lora::METHOD,
    fedsa_lora::RSLORA,
    fedsa_lora::VERA,
    lora_fair::METHOD,
    fedsvd::METHOD,
    flexlora::METHOD,
    rolora::METHOD,
    coordinate_median::METHOD,
    trimmed_mean::METHOD,
    geometric_median::METHOD,
    krum::METHOD,
    krum::MULTI,
];

/// Kinds in which the change of the weight is the product of the factors.
const LORA: &[AdapterKind] = &[AdapterKind::Lora, AdapterKind::Olora];
/// Kinds with the product of the factors in them, whatever is made of it.
const MATRICES: &[AdapterKind] = &[AdapterKind::Lora, AdapterKind::Olora, AdapterKind::Dora];
const VERA: &[AdapterKind] = &[AdapterKind::Vera];
/// LoRA-XS too, where a method does with the factor that is trained what it does with any.
const ANY: &[AdapterKind] =
    &[AdapterKind::Lora, AdapterKind::Vera, AdapterKind::Olora, AdapterKind::Dora, AdapterKind::LoraXs];

/// A federated method as it is known to users, and how to make one.
#[derive(Clone, Copy)]
pub struct Method {
    /// In configuration files and reports, kebab-case.
    pub name: &'static str,
    /// Title of its paper.
    pub title: &'static str,
    /// The paper's arXiv number; empty for what needs no paper.
    pub arxiv: &'static str,
    /// One line for lists.
    pub summary: &'static str,
    /// Adapter kinds that it serves; the first is the one to use where the configuration names none.
    pub kinds: &'static [AdapterKind],
    /// What it demands of `use_rslora`; `None` where the configuration decides.
    pub use_rslora: Option<bool>,
    /// How it wants the first global adapter; `None` where the configuration decides.
    pub init: Option<Init>,
    /// Whether comparisons include it as a row to be measured against.
    pub is_reference: bool,
    /// Whether it trusts a majority of the clients only; it then needs more of them.
    pub is_robust: bool,
    build: fn(&toml::Table) -> Result<Box<dyn Strategy>, AggregationError>,
}

impl Method {
    /// The method of this name.
    ///
    /// # Errors
    /// [`AggregationError::UnknownMethod`], with the nearest name that exists.
    pub fn find(name: &str) -> Result<&'static Self, AggregationError> {
        let unknown = || AggregationError::UnknownMethod {
            name: name.to_owned(),
            nearest: parameters::nearest(name, METHODS.iter().map(|method| method.name)).unwrap_or_default(),
        };
        METHODS.iter().find(|method| method.name == name).ok_or_else(unknown)
    }

    /// Whether it can serve adapters of this kind.
    ///
    /// # Errors
    /// [`AggregationError::UnsupportedKind`], with the kinds that it serves.
    pub fn check(&self, kind: AdapterKind) -> Result<(), AggregationError> {
        if self.kinds.contains(&kind) {
            return Ok(());
        }
        Err(AggregationError::UnsupportedKind { method: self.name, kind, supported: self.kinds })
    }

    /// The method with the given parameters; absent ones keep their defaults.
    ///
    /// # Errors
    /// An unknown key, with the nearest one that exists; a value of a wrong type or outside of its range.
    pub fn build(&self, parameters: &toml::Table) -> Result<Box<dyn Strategy>, AggregationError> {
        (self.build)(parameters)
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("name", &self.name).field("arxiv", &self.arxiv).finish_non_exhaustive()
    }
}
