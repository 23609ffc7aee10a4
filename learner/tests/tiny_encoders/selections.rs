//! Which modules a selection means, beside those that `peft` finds.

use fedlora_adapter::{LayerNumbers, ModuleName, ModulePatterns, ModuleSelection};
use fedlora_learner::{LearnerError, Pooling, selected_modules};
use serde::Deserialize;

use super::{directory, load, reference};

/// A selection, and what `peft` finds by it.
#[derive(Deserialize)]
pub(crate) struct Selected {
    target_modules: ModulePatterns,
    exclude_modules: Option<ModulePatterns>,
    layers_to_transform: Option<LayerNumbers>,
    layers_pattern: Option<ModulePatterns>,
    modules: Vec<String>,
}

impl Selected {
    fn selection(&self) -> ModuleSelection {
        ModuleSelection {
            target_modules: self.target_modules.clone(),
            exclude_modules: self.exclude_modules.clone(),
            layers_to_transform: self.layers_to_transform.clone(),
            layers_pattern: self.layers_pattern.clone(),
        }
    }
}

#[test]
fn every_selection_means_the_modules_that_peft_finds() {
    let (model, _) = load(&directory("tiny_roberta"), Pooling::Pooler);
    for expected in reference("tiny_roberta").selections {
        let found = selected_modules(&*model, &expected.selection()).unwrap();
        let found: Vec<&str> = found.keys().map(ModuleName::as_str).collect();
        assert_eq!(found, expected.modules, "{:?}", expected.selection());
    }
    let all = ModulePatterns::Expression("all-linear".to_owned());
    // Six layers in each of two blocks; PEFT has the two of the head besides, which are trained whole here.
    assert_eq!(selected_modules(&*model, &all.into()).unwrap().len(), 12);
}

#[test]
fn a_selection_that_cannot_be_meant_is_refused() {
    let (model, _) = load(&directory("tiny_roberta"), Pooling::Pooler);
    let expression = |text: &str| ModulePatterns::Expression(text.to_owned()).into();
    let error = |selection: ModuleSelection| selected_modules(&*model, &selection).unwrap_err();
    for python in [r"(?!.*key).*query", r"(.*)\.\1", "(query", "a)|(b"] {
        let found = error(expression(python));
        assert!(matches!(&found, LearnerError::ModulePattern { key: "target_modules", .. }), "{found}");
        let excluded = ModuleSelection {
            exclude_modules: Some(ModulePatterns::Expression(python.to_owned())),
            ..expression(".*query")
        };
        assert!(matches!(error(excluded), LearnerError::ModulePattern { key: "exclude_modules", .. }));
    }
    let bare = error(expression("query"));
    assert!(
        matches!(&bare, LearnerError::TargetExpression { known, .. } if known.contains(&"query".to_owned())),
        "{bare}"
    );
    let layers = ModuleSelection { layers_to_transform: Some(LayerNumbers::One(0)), ..expression(".*query") };
    assert!(matches!(error(layers), LearnerError::LayersOfExpression));
    let names = ModulePatterns::Names(vec!["query".to_owned()]);
    let pattern = ModuleSelection { layers_pattern: Some(names.clone()), ..names.clone().into() };
    assert!(matches!(error(pattern), LearnerError::LayersOfExpression));
    let unknown = ModulePatterns::Names(vec!["query".to_owned(), "qeury".to_owned()]);
    assert!(matches!(error(unknown.into()), LearnerError::TargetModule { target, .. } if target == "qeury"));
}
