//! Where the Hub is and what is kept of it, in the variables that Python's `huggingface_hub` reads.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The Hub.
const ENDPOINT: &str = "https://huggingface.co";
/// How long the other side may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to reach the Hub. Its `Debug` form does not hold the token.
#[derive(Clone)]
pub struct HubSettings {
    /// `HF_ENDPOINT`: address without a slash at its end.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, else the content of `HF_TOKEN_PATH` or `HF_HOME/token`.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`: only what the cache has.
    pub offline: bool,
    /// `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE`: authorities in PEM to trust in place of Mozilla's.
    pub certificates: Option<PathBuf>,
    /// How long the other side may be silent.
    pub patience: Duration,
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("HubSettings");
        shown.field("endpoint", &self.endpoint).field("cache", &self.cache).field("offline", &self.offline);
        shown.field("token", &self.token.is_some()).finish_non_exhaustive()
    }
}

impl HubSettings {
    /// What the process's environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    /// What some variables say. Empty ones count as absent.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let path = |names: &[&str]| first(names).map(|value| expanded(&value, &first));
        let cache_home = || path(&["XDG_CACHE_HOME"]).unwrap_or_else(|| expanded("~/.cache", &first));
        let home = path(&["HF_HOME"]).unwrap_or_else(|| cache_home().join("huggingface"));
        let token = first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]);
        let token = token.or_else(|| {
            let file = path(&["HF_TOKEN_PATH"]).unwrap_or_else(|| home.join("token"));
            fs::read_to_string(file).ok()
        });
        let token = token.map(|token| token.trim().to_owned());
        let is_on = |value: String| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str());
        let endpoint = first(&["HF_ENDPOINT"]).unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: path(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).unwrap_or_else(|| home.join("hub")),
            token: token.filter(|token| !token.is_empty()),
            offline: first(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]).is_some_and(is_on),
            certificates: path(&["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]),
            patience: PATIENCE,
        }
    }
}

/// A path in which `~` is the home directory.
fn expanded(path: &str, first: &impl Fn(&[&str]) -> Option<String>) -> PathBuf {
    match (path.strip_prefix("~/"), first(&["HOME", "USERPROFILE"])) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> HubSettings {
        let find = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        HubSettings::read(find)
    }

    #[test]
    fn variables_mean_what_they_mean_to_pythons_library() {
        let found = read(&[("HOME", "/h")]);
        assert_eq!((found.endpoint.as_str(), found.offline, &found.token), ("https://huggingface.co", false, &None));
        assert_eq!(found.cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(read(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/huggingface/hub"));
        let found =
            read(&[("HOME", "/h"), ("HF_HOME", "~/f"), ("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", " t\n")]);
        assert_eq!((found.cache, found.endpoint.as_str()), (PathBuf::from("/h/f/hub"), "http://mirror"));
        assert_eq!(found.token.as_deref(), Some("t"));
        assert_eq!(read(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]).cache, Path::new("/c"));
        for (value, offline) in [("1", true), ("ON", true), ("true", true), ("0", false), ("", false)] {
            assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value:?}");
        }
    }

    #[test]
    fn a_token_may_stand_in_its_file_and_is_never_shown() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "hf_secret\n").unwrap();
        let found = read(&[("HF_HOME", home.path().to_str().unwrap())]);
        assert_eq!(found.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{found:?}").contains("secret"));
    }
}
