//! No federation at all: every client trains for itself. The row that shows what collaboration is worth.

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId};
use serde::{Deserialize, Serialize};

use super::{ANY, Method};
use crate::{AggregationError, Contribution, Strategy, parameters};

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: "local-only",
    title: "Local training, the reference without collaboration",
    arxiv: "",
    summary: "every client trains and keeps its own adapter",
    kinds: ANY,
    use_rslora: None,
    init: None,
    is_reference: true,
    is_robust: false,
    build: |table| Ok(Box::new(parameters::parse::<LocalOnly>("local-only", table)?)),
};

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct LocalOnly {
    head: HeadPolicy,
}

impl Default for LocalOnly {
    fn default() -> Self {
        Self { head: HeadPolicy::Personal }
    }
}

impl Strategy for LocalOnly {
    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::Both, upload: Factors::Neither, download: Factors::Neither, head: self.head }
    }

    fn combine(
        &self,
        _: RoundId,
        previous: &LoraFactors,
        _: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        Ok(previous.clone())
    }
}
