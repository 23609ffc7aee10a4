//! Small adapters and runs for tests.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{AdapterKind, AdapterSpec, Digest, ModuleName, ModuleSpec};

use crate::RunInfo;

/// Two modules and a head.
pub(crate) fn spec() -> Arc<AdapterSpec> {
    let module = |name: &str| (ModuleName::new(name), ModuleSpec::new(3, 2));
    Arc::new(AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 2,
        alpha: 4.0,
        use_rslora: false,
        projection_seed: 0,
        modules: BTreeMap::from([module("first"), module("second")]),
        head: BTreeMap::from([("classifier.bias".to_owned(), vec![2])]),
    })
}

/// A run over [`spec`].
pub(crate) fn run(id: u64) -> Arc<RunInfo> {
    let labels = vec!["no".to_owned(), "yes".to_owned()];
    Arc::new(RunInfo { id, name: "trial".to_owned(), spec: spec(), base_model: Digest::of(b"base"), labels })
}
