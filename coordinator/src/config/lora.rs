//! The adapter, in the spelling of PEFT's `LoraConfig`.

use fedlora_adapter::{AdapterKind, LayerNumbers, ModulePatterns, ModuleSelection, ModuleValues};
use fedlora_aggregation::Init;
use serde::{Deserialize, Serialize};

/// The adapter, in PEFT's spelling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Kind of adapter: `LORA`, `VERA` or `LORA_XS`, which PEFT does not have; by default the one that the method is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peft_type: Option<PeftType>,
    /// Rank.
    pub r: usize,
    /// Scale is `lora_alpha / r`, or `/ sqrt(r)` with `use_rslora`.
    pub lora_alpha: f64,
    /// Dropout on the input of the adapter.
    pub lora_dropout: f64,
    /// Modules to adapt: a list of full names and last parts of names; or one string, a regular expression for full names,
    /// or `all-linear`.
    pub target_modules: ModulePatterns,
    /// Modules not to adapt, a list or an expression alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_modules: Option<ModulePatterns>,
    /// Adapt only in these layers, counted from 0, where `target_modules` is a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers_to_transform: Option<LayerNumbers>,
    /// What precedes a layer's number in the names of modules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers_pattern: Option<ModulePatterns>,
    /// `r` of single modules: values by regular expressions for whole names, or for their ends behind a dot. Where several
    /// match a module they must have the same value.
    #[serde(deserialize_with = "ModuleValues::unordered", skip_serializing_if = "ModuleValues::is_empty")]
    pub rank_pattern: ModuleValues<usize>,
    /// `lora_alpha` of single modules, alike.
    #[serde(deserialize_with = "ModuleValues::unordered", skip_serializing_if = "ModuleValues::is_empty")]
    pub alpha_pattern: ModuleValues<f64>,
    /// Rank-stabilised scaling.
    pub use_rslora: bool,
    /// Learning rate of `B` over that of everything else (LoRA+).
    pub loraplus_lr_ratio: f64,
    /// Train magnitude and direction of the weights apart (DoRA).
    pub use_dora: bool,
    /// First values: `default`, `gaussian`, `orthonormal`, `orthogonal`, `pissa`, `olora` or `eva`.
    pub init_lora_weights: Init,
    /// For `eva`: which public rows the first values come from. For those who have the model to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eva_config: Option<toml::Table>,
}

impl LoraConfig {
    /// The modules to adapt.
    #[must_use]
    pub fn selection(&self) -> ModuleSelection {
        ModuleSelection {
            target_modules: self.target_modules.clone(),
            exclude_modules: self.exclude_modules.clone(),
            layers_to_transform: self.layers_to_transform.clone(),
            layers_pattern: self.layers_pattern.clone(),
        }
    }
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            peft_type: None,
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            target_modules: ModulePatterns::Names(vec!["query".to_owned(), "value".to_owned()]),
            exclude_modules: None,
            layers_to_transform: None,
            layers_pattern: None,
            rank_pattern: ModuleValues::default(),
            alpha_pattern: ModuleValues::default(),
            use_rslora: false,
            loraplus_lr_ratio: 1.0,
            use_dora: false,
            init_lora_weights: Init::Default,
            eva_config: None,
        }
    }
}

/// Adapter kinds, in PEFT's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PeftType {
    /// Two factors.
    Lora,
    /// Two vectors around frozen random projections.
    Vera,
    /// A small matrix between frozen singular directions of the weight.
    #[serde(rename = "LORA_XS")]
    LoraXs,
}

impl From<PeftType> for AdapterKind {
    fn from(kind: PeftType) -> Self {
        match kind {
            PeftType::Lora => Self::Lora,
            PeftType::Vera => Self::Vera,
            PeftType::LoraXs => Self::LoraXs,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use fedlora_adapter::{HeadSpec, ModuleName, ModuleSpec};

    use super::*;
    use crate::config::{ConfigError, RunConfig};

    fn kind(method: &str, lora: &str) -> Result<AdapterKind, ConfigError> {
        let text = format!("num-rounds = 1\nlearning-rate = 0.1\n[method]\nname = '{method}'\n[lora]\n{lora}");
        RunConfig::take(&mut text.parse().expect("TOML"))?.adapter_kind()
    }

    #[test]
    fn the_kind_follows_from_pefts_keys_and_the_method() {
        assert_eq!(kind("fedavg", "").expect("valid"), AdapterKind::Lora);
        assert_eq!(kind("fedavg", "use_dora = true").expect("valid"), AdapterKind::Dora);
        assert_eq!(kind("fedavg", "init_lora_weights = 'olora'").expect("valid"), AdapterKind::Olora);
        assert_eq!(kind("fedsa-vera", "").expect("valid"), AdapterKind::Vera);
        let refused = |method: &str, lora: &str| kind(method, lora).expect_err(lora).to_string();
        assert!(refused("fedavg", "use_dora = true\ninit_lora_weights = 'olora'").contains("use_dora"));
        assert!(refused("fedsa-vera", "use_dora = true").contains("use_dora"));
        kind("lora-fair", "use_dora = true").expect_err("its correction is one of the product");
        assert_eq!(kind("fedavg", "peft_type = 'LORA_XS'").expect("valid"), AdapterKind::LoraXs);
        kind("fedavg", "peft_type = 'LORA_XS'\nuse_dora = true").expect_err("two kinds");
        for method in ["fedsa-lora", "fedsvd", "lora-fair", "ffa-orthonormal"] {
            let error = kind(method, "peft_type = 'LORA_XS'").expect_err(method);
            let reason = error.source().expect("the method's own").to_string();
            assert!(reason.contains("LoraXs"), "{reason}");
        }
        // The method's own first adapter is the one that counts.
        assert_eq!(kind("ffa-orthonormal", "init_lora_weights = 'olora'").expect("valid"), AdapterKind::Lora);
    }

    #[test]
    fn single_modules_have_ranks_and_alphas_of_their_own() {
        let spec = |lora: &str| {
            let text = format!("num-rounds = 1\nlearning-rate = 0.1\nmethod.name = 'fedavg'\n[lora]\n{lora}");
            let config = RunConfig::take(&mut text.parse().expect("TOML")).expect("valid");
            let again = RunConfig::take(&mut config.to_table().expect("writable")).expect("as written");
            assert_eq!(again, config);
            let modules =
                ["0.query", "1.query", "1.value"].map(|name| (ModuleName::new(name), ModuleSpec::new(32, 32)));
            config.spec(modules.into(), HeadSpec::new()).map_err(|error| error.to_string())
        };
        let found = spec("rank_pattern = { '1\\..*' = 4 }\nalpha_pattern = { value = 2, query = 16 }").expect("usable");
        let own = |name: &str| found.modules[&ModuleName::new(name)];
        assert_eq!([own("0.query").rank, own("1.query").rank, own("1.value").rank], [None, Some(4), Some(4)]);
        assert_eq!([own("1.query").alpha, own("1.value").alpha], [None, Some(2.0)], "16 is the adapter's own");
        let clash = spec("rank_pattern = { query = 4, '1.query' = 2 }").expect_err("which one?");
        assert!(clash.contains("rank_pattern") && clash.contains("1.query"), "{clash}");
        assert!(spec("alpha_pattern = { key = 4 }").expect_err("no such module").contains("0.query"));
        assert!(spec("rank_pattern = { query = 0 }").expect_err("no rank").contains("rank"));
    }

    #[test]
    fn modules_are_selected_by_a_list_or_an_expression() {
        let lora = |text: &str| toml::from_str::<LoraConfig>(text).expect("valid").selection();
        let names = lora("target_modules = ['query']\nlayers_to_transform = 1\nlayers_pattern = 'layer'");
        assert_eq!(names.target_modules, ModulePatterns::Names(vec!["query".to_owned()]));
        assert_eq!(names.layers_to_transform, Some(LayerNumbers::One(1)));
        let expression = lora("target_modules = '.*query'\nexclude_modules = ['layer.0.query']");
        assert_eq!(expression.target_modules, ModulePatterns::Expression(".*query".to_owned()));
        assert_eq!(expression.exclude_modules.expect("given").as_slice(), ["layer.0.query"]);
    }
}
