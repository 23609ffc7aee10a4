//! Whose examples are whose.

use std::collections::BTreeMap;

/// Which natural client, or which user, every example belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    names: Vec<String>,
    of_example: Vec<u32>,
}

impl Groups {
    /// Groups by number, one for each example.
    #[must_use]
    pub fn new(names: Vec<String>, of_example: Vec<u32>) -> Self {
        Self { names, of_example }
    }

    /// Groups by name; `None` if some example has none or one that is not in `names`.
    pub(super) fn of<'a>(examples: impl Iterator<Item = Option<&'a str>>, names: &[String]) -> Option<Self> {
        let by_name: BTreeMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
        let of_example = examples.map(|name| by_name.get(name?).copied()).collect::<Option<_>>()?;
        Some(Self { names: names.to_vec(), of_example })
    }

    /// Names, in the order of the groups' numbers.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Every example's group.
    #[must_use]
    pub fn of_example(&self) -> &[u32] {
        &self.of_example
    }
}
