//! Ranks and alphas of single modules, in the words of PEFT's `rank_pattern` and `alpha_pattern`.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use regex::Regex;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use crate::{AdapterError, ModuleName};

/// Values by pattern: a regular expression for a module's whole name, or for its end behind a dot.
///
/// Of several patterns that match a module the first counts, and one that matches none says nothing, as in PEFT. A format
/// that does not keep the order of keys cannot say which one is the first: there ([`ModuleValues::unordered`]) all of
/// them must have the same value, and each must match something.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleValues<T> {
    entries: Vec<(String, T)>,
    is_ordered: bool,
}

impl<T> Default for ModuleValues<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), is_ordered: true }
    }
}

impl<T> ModuleValues<T> {
    /// The patterns in an order that means nothing, as TOML has them: for serde's `deserialize_with`.
    ///
    /// # Errors
    /// What the format finds wrong with it.
    pub fn unordered<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>
    where
        T: Deserialize<'de>,
    {
        Ok(Self { is_ordered: false, ..Self::deserialize(deserializer)? })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T: Copy + PartialEq> ModuleValues<T> {
    /// The values of those of some modules that a pattern matches. `key` is what the patterns are called.
    ///
    /// # Errors
    /// [`AdapterError::ModulePattern`] for one that is no expression; without an order also for one that matches none of
    /// the modules, and for several that match one module with different values.
    pub(crate) fn of<'a>(
        &self,
        key: &'static str,
        modules: impl Iterator<Item = &'a ModuleName> + Clone,
    ) -> Result<BTreeMap<&'a ModuleName, T>, AdapterError> {
        let mut found: BTreeMap<&ModuleName, (&str, T)> = BTreeMap::new();
        for (pattern, value) in &self.entries {
            let refused = |problem| AdapterError::ModulePattern { key, pattern: pattern.clone(), problem };
            let expression = expression(pattern).map_err(|error| refused(format!("is no expression: {error}")))?;
            let mut own = modules.clone().filter(|name| expression.is_match(name.as_str())).peekable();
            if !self.is_ordered && own.peek().is_none() {
                let example = modules.clone().next().map(ToString::to_string).unwrap_or_default();
                return Err(refused(format!("matches none of the adapted modules, such as {example}")));
            }
            for name in own {
                let (first, known) = *found.entry(name).or_insert((pattern, *value));
                if !self.is_ordered && known != *value {
                    return Err(refused(format!("and {first:?} have different values for {name}")));
                }
            }
        }
        Ok(found.into_iter().map(|(name, (_, value))| (name, value)).collect())
    }
}

/// One pattern: `(.*\.)?(pattern)$` from the start of a name, as in `peft.utils.other.get_pattern_key`.
fn expression(pattern: &str) -> Result<Regex, regex::Error> {
    // By itself first: brackets that do not match must not be closed by those around it.
    Regex::new(pattern)?;
    Regex::new(&format!(r"\A(?:.*\.)?(?:{pattern})\z"))
}

impl<T: Serialize> Serialize for ModuleValues<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(pattern, value)| (pattern, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ModuleValues<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Vec<(String, T)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of values by patterns of module names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        let entries = deserializer.deserialize_map(Entries(PhantomData))?;
        Ok(Self { entries, is_ordered: true })
    }
}

impl<T> FromIterator<(String, T)> for ModuleValues<T> {
    /// Patterns in this order.
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect(), is_ordered: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<ModuleName> {
        ["layer.0.query", "layer.0.value", "layer.1.query", "layer.10.query", "query"].map(ModuleName::new).to_vec()
    }

    fn of(values: &ModuleValues<usize>) -> Result<Vec<(String, usize)>, String> {
        let names = names();
        let found = values.of("rank_pattern", names.iter()).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    fn ordered(json: &str) -> ModuleValues<usize> {
        serde_json::from_str(json).unwrap()
    }

    fn unordered(json: &str) -> ModuleValues<usize> {
        ModuleValues::unordered(&mut serde_json::Deserializer::from_str(json)).unwrap()
    }

    #[test]
    fn a_pattern_is_for_a_whole_name_or_its_end_behind_a_dot() {
        let all = |pattern: &str| {
            let found = of(&ordered(&format!("{{{pattern:?}: 3}}"))).unwrap();
            found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(all("value"), ["layer.0.value"]);
        assert_eq!(all("query"), ["layer.0.query", "layer.1.query", "layer.10.query", "query"]);
        assert_eq!(all("0.query"), ["layer.0.query"], "not the end of a number");
        assert_eq!(all(r"1\d?\.query"), ["layer.1.query", "layer.10.query"]);
        assert_eq!(all("^query"), ["query"]);
        assert_eq!(all("value|1.query"), ["layer.0.value", "layer.1.query"]);
        assert_eq!(all("bert.layer.1.query"), [""; 0]);
    }

    #[test]
    fn the_first_pattern_counts_where_there_is_a_first() {
        let text = r#"{"layer.0.query": 5, "query": 2}"#;
        let expected = [("layer.0.query", 5), ("layer.1.query", 2), ("layer.10.query", 2), ("query", 2)];
        assert_eq!(of(&ordered(text)).unwrap(), expected.map(|(name, rank)| (name.to_owned(), rank)));
        let error = of(&unordered(text)).unwrap_err();
        assert!(error.contains("layer.0.query") && error.contains("different values"), "{error}");
        of(&unordered(&text.replace('5', "2"))).unwrap();
    }

    #[test]
    fn what_matches_nothing_or_is_no_expression_is_refused() {
        for (pattern, problem) in [("key", "layer.0.query"), ("(query", "no expression"), ("a)|(b", "no expression")] {
            let error = of(&unordered(&format!("{{{pattern:?}: 3}}"))).unwrap_err();
            assert!(error.contains("rank_pattern") && error.contains(problem), "{error}");
        }
        assert_eq!(of(&ordered(r#"{"key": 3}"#)).unwrap(), [], "peft's files may speak of other modules");
        assert_eq!(of(&ModuleValues::default()).unwrap(), []);
    }

    #[test]
    fn patterns_are_written_in_their_order() {
        let text = r#"{"z":1,"a":2}"#;
        assert_eq!(serde_json::to_string(&ordered(text)).unwrap(), text);
    }
}
