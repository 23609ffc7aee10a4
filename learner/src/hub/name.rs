//! Names of models on the Hub, and how they differ from directories.

use std::{fmt, path::Path};

/// What makes a name one of the Hub's, whatever directories there are.
const SCHEME: &str = "hf:";
/// The longest name that the Hub allows.
const LONGEST: usize = 96;

/// A model repository, `organisation/name`, or one of the first models, `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName(String);

impl HubName {
    /// The name in a configuration's path: behind `hf:`, or a plain `organisation/name` where there is no such directory.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        if let Some(name) = text.strip_prefix(SCHEME) {
            return is_name(name).then(|| Self(name.to_owned()));
        }
        let plain = text.matches('/').count() == 1 && is_name(text) && !path.exists();
        plain.then(|| Self(text.to_owned()))
    }

    /// The name of its folder in a cache.
    pub(super) fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One or two parts of letters, digits, `-`, `_` and `.`, as the Hub has them: no path can be hidden in one.
fn is_name(text: &str) -> bool {
    let is_part = |part: &str| {
        let inner = part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        let ends = !part.starts_with(['-', '.']) && !part.ends_with(['-', '.']);
        inner && ends && !part.is_empty() && !part.contains("--") && !part.contains("..")
    };
    text.len() <= LONGEST && text.split('/').count() <= 2 && text.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_hubs_by_its_scheme_or_where_no_directory_has_it() {
        let name = |path: &str| HubName::of(Path::new(path)).map(|name| name.to_string());
        for (path, expected) in [
            ("hf:org/name", Some("org/name")),
            ("hf:bert-base-uncased", Some("bert-base-uncased")),
            ("Qwen/Qwen2.5-0.5B", Some("Qwen/Qwen2.5-0.5B")),
            ("all-MiniLM-L6-v2", None),
            ("./org/name", None),
            ("/org/name", None),
            ("../name", None),
            ("org/name/", None),
            ("org/..", None),
            ("hf:../../etc", None),
            ("hf:org/na me", None),
            ("hf:", None),
            ("models--org--name/snapshots", None),
        ] {
            assert_eq!(name(path).as_deref(), expected, "{path}");
        }
        // A directory of this crate: tests run in its root.
        assert_eq!((name("src/model"), name("hf:src/model").as_deref()), (None, Some("src/model")));
        assert_eq!(HubName::of(Path::new("hf:org/name")).unwrap().folder(), "models--org--name");
    }
}
