//! Which modules an adapter wraps, from a configuration's `target_modules`.

use std::collections::{BTreeMap, BTreeSet};

use fedlora_adapter::{ModuleName, ModuleSpec};

use super::Model;
use crate::LearnerError;

/// PEFT's word for every linear module.
const ALL_LINEAR: &str = "all-linear";

/// The adaptable modules that some targets name, as PEFT matches them: a target is a module's whole name or its end
/// behind a dot, and `all-linear` is every module.
///
/// # Errors
/// [`LearnerError::TargetModule`] for a target that matches nothing.
pub fn target_modules(model: &dyn Model, targets: &[String]) -> Result<BTreeMap<ModuleName, ModuleSpec>, LearnerError> {
    let mut modules = BTreeMap::new();
    for target in targets {
        let named = model.adaptable().iter().filter(|(name, _)| is_named(name.as_str(), target));
        let mut matched = named.map(|(name, module)| (name.clone(), *module)).peekable();
        if matched.peek().is_none() {
            return Err(LearnerError::TargetModule { target: target.clone(), known: last_parts(model) });
        }
        modules.extend(matched);
    }
    Ok(modules)
}

fn is_named(name: &str, target: &str) -> bool {
    let end = name.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    end || target == ALL_LINEAR
}

/// The last parts of all names, without repetition.
fn last_parts(model: &dyn Model) -> Vec<String> {
    let parts: BTreeSet<&str> = model.adaptable().keys().filter_map(|name| name.as_str().rsplit('.').next()).collect();
    parts.into_iter().map(str::to_owned).collect()
}
