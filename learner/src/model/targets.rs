//! Which modules an adapter wraps, from a configuration's `target_modules` and the keys beside it.
//!
//! Names are matched as PEFT matches them (`peft.tuners.tuners_utils.check_target_module_exists`), so that a selection
//! means the same modules here and there. Expressions are those of the `regex` crate, which lacks what Python's engine
//! does by going back: assertions about what precedes or follows, and references to groups. They are refused.

use std::collections::{BTreeMap, BTreeSet};

use fedlora_adapter::{LayerNumbers, ModuleName, ModulePatterns, ModuleSelection, ModuleSpec};
use regex::Regex;

use super::Model;
use crate::LearnerError;

/// PEFT's word for every linear module.
const ALL_LINEAR: &str = "all-linear";
/// The key that may say it.
const TARGETS: &str = "target_modules";

/// The adaptable modules that some names mean: a module's whole name or its end behind a dot; `all-linear` is every one.
///
/// # Errors
/// [`LearnerError::TargetModule`] for a name that matches nothing.
pub fn target_modules(model: &dyn Model, names: &[String]) -> Result<BTreeMap<ModuleName, ModuleSpec>, LearnerError> {
    selected_modules(model, &ModulePatterns::Names(names.to_vec()).into())
}

/// The adaptable modules that a selection means.
///
/// Departures from PEFT: a name in a list that matches nothing is an error even where others match something, and
/// `all-linear` may stand in a list. Heads are no adaptable modules: they are trained as a whole.
///
/// # Errors
/// [`LearnerError::TargetModule`] or [`LearnerError::TargetExpression`] for a target that matches nothing;
/// [`LearnerError::ModulePattern`] for an expression that is none; [`LearnerError::LayersOfExpression`] for numbers of layers beside an expression, or a pattern without numbers.
pub fn selected_modules(
    model: &dyn Model,
    selection: &ModuleSelection,
) -> Result<BTreeMap<ModuleName, ModuleSpec>, LearnerError> {
    let targets = Matcher::new(TARGETS, &selection.target_modules)?;
    let excluded = selection.exclude_modules.as_ref().map(|patterns| Matcher::new("exclude_modules", patterns));
    let excluded = excluded.transpose()?;
    let layers = Layers::new(selection)?;
    if let Some(target) = targets.without_match(model.adaptable().keys()) {
        return Err(no_match(model, &targets, target.to_owned()));
    }
    let is_meant = |name: &str| {
        let is_excluded = excluded.as_ref().is_some_and(|excluded| excluded.matches(name));
        let in_layers = || layers.as_ref().is_none_or(|layers| targets.is_whole(name) || layers.have(name));
        !is_excluded && targets.matches(name) && in_layers()
    };
    let modules = model.adaptable().iter().filter(|(name, _)| is_meant(name.as_str()));
    Ok(modules.map(|(name, module)| (name.clone(), *module)).collect())
}

/// Patterns, ready to be held against names.
enum Matcher<'a> {
    All,
    /// The expression, and what it was made of.
    Expression(Regex, &'a str),
    Names(&'a [String]),
}

impl<'a> Matcher<'a> {
    fn new(key: &'static str, patterns: &'a ModulePatterns) -> Result<Self, LearnerError> {
        match patterns {
            _ if key == TARGETS && is_all(patterns) => Ok(Self::All),
            ModulePatterns::Expression(text) => {
                // By itself first: brackets that do not match must not be closed by those around it.
                expression(key, text, text)?;
                Ok(Self::Expression(expression(key, text, &format!(r"\A(?:{text})\z"))?, text))
            }
            ModulePatterns::Names(names) => Ok(Self::Names(names)),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Expression(expression, _) => expression.is_match(name),
            Self::Names(ends) => ends.iter().any(|end| is_end(name, end)),
        }
    }

    /// Whether a list has the name itself.
    fn is_whole(&self, name: &str) -> bool {
        matches!(self, Self::Names(names) if names.iter().any(|whole| whole == name))
    }

    /// The first pattern that matches no name.
    fn without_match<'b>(&self, names: impl Iterator<Item = &'b ModuleName> + Clone) -> Option<&'a str> {
        let unmatched = |matches: &dyn Fn(&str) -> bool| !names.clone().any(|name| matches(name.as_str()));
        match self {
            Self::All => None,
            Self::Expression(expression, text) => unmatched(&|name| expression.is_match(name)).then_some(*text),
            Self::Names(ends) => ends.iter().find(|end| unmatched(&|name| is_end(name, end))).map(String::as_str),
        }
    }
}

/// The layers to adapt in.
struct Layers<'a> {
    numbers: &'a [usize],
    /// How a number is found in a module's name; the first that finds one counts.
    finders: Vec<Regex>,
}

impl<'a> Layers<'a> {
    /// None where all layers are meant.
    fn new(selection: &'a ModuleSelection) -> Result<Option<Self>, LearnerError> {
        const KEY: &str = "layers_pattern";
        let numbers = selection.layers_to_transform.as_ref().map(LayerNumbers::as_slice);
        let patterns = selection.layers_pattern.as_ref().map_or(&[][..], ModulePatterns::as_slice);
        let is_expression = matches!(selection.target_modules, ModulePatterns::Expression(_));
        if (is_expression && (numbers.is_some() || !patterns.is_empty())) || (numbers.is_none() && !patterns.is_empty())
        {
            return Err(LearnerError::LayersOfExpression);
        }
        let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else { return Ok(None) };
        let finder = |pattern: &String| {
            expression(KEY, pattern, pattern)?;
            expression(KEY, pattern, &format!(r"\A(?:|.*?\.)(?:{pattern})\.(?<number>\d+)\."))
        };
        let finders = if patterns.is_empty() {
            vec![expression(KEY, "", r"\A.*?\.[^.]*\.(?<number>\d+)\.")?]
        } else {
            patterns.iter().map(finder).collect::<Result<_, _>>()?
        };
        Ok(Some(Self { numbers, finders }))
    }

    fn have(&self, name: &str) -> bool {
        let captures = self.finders.iter().find_map(|finder| finder.captures(name));
        let number = captures.and_then(|captures| captures.name("number")?.as_str().parse().ok());
        number.is_some_and(|number| self.numbers.contains(&number))
    }
}

fn is_end(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The expression `whole`, in which the user wrote `text`.
fn expression(key: &'static str, text: &str, whole: &str) -> Result<Regex, LearnerError> {
    Regex::new(whole).map_err(|error| LearnerError::ModulePattern {
        key,
        text: text.to_owned(),
        source: Box::new(error),
    })
}

fn is_all(patterns: &ModulePatterns) -> bool {
    patterns.as_slice().iter().any(|word| word.eq_ignore_ascii_case(ALL_LINEAR))
}

fn no_match(model: &dyn Model, targets: &Matcher<'_>, target: String) -> LearnerError {
    let known = last_parts(model);
    let example = model.adaptable().keys().next().map(ToString::to_string).unwrap_or_default();
    match targets {
        Matcher::Expression(..) => LearnerError::TargetExpression { expression: target, example, known },
        Matcher::All | Matcher::Names(_) => LearnerError::TargetModule { target, known },
    }
}

/// The last parts of all names, without repetition.
fn last_parts(model: &dyn Model) -> Vec<String> {
    let parts: BTreeSet<&str> = model.adaptable().keys().filter_map(|name| name.as_str().rsplit('.').next()).collect();
    parts.into_iter().map(str::to_owned).collect()
}
