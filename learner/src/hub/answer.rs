//! What the Hub says of a repository.

use serde::Deserialize;
use ureq::{Body, http::Response};

use super::{Hub, HubError, HubName};

/// A revision's commit and files.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    pub(super) sha: String,
    #[serde(default)]
    siblings: Vec<Listed>,
}

/// A file of a repository.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    rfilename: String,
    blob_id: Option<String>,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

/// A large file.
#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// A file to bring here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    /// Names its content: SHA-256 of a large file, git's number of a small one; none where the endpoint tells none.
    pub(super) etag: Option<&'a str>,
    /// Bytes, with the etag.
    pub(super) size: u64,
    /// Whether the etag is a SHA-256.
    pub(super) is_digest: bool,
}

impl Listing {
    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.siblings.iter().any(|file| file.rfilename == name)
    }

    /// What is known of a file.
    pub(super) fn file<'a>(&'a self, name: &'a str) -> Wanted<'a> {
        let unknown = Wanted { name, etag: None, size: 0, is_digest: false };
        let Some(file) = self.siblings.iter().find(|file| file.rfilename == name) else { return unknown };
        match (&file.lfs, &file.blob_id, file.size) {
            (Some(lfs), ..) => Wanted { etag: Some(&lfs.sha256), size: lfs.size, is_digest: true, ..unknown },
            (None, Some(id), Some(size)) => Wanted { etag: Some(id), size, ..unknown },
            _ => unknown,
        }
    }
}

impl Hub {
    /// Commit and files of a revision.
    pub(super) fn listing(&self, name: &HubName, revision: &str) -> Result<Listing, HubError> {
        let url = format!("{}/api/models/{name}/revision/{}?blobs=true", self.settings.endpoint, escaped(revision));
        let mut response = self.get(name, &url, None)?;
        if response.status() != 200 {
            return Err(self.refusal(name, revision, url, &response));
        }
        let text = response.body_mut().read_to_string().map_err(|error| self.unreachable(name, error))?;
        let listing: Listing =
            serde_json::from_str(&text).map_err(|source| HubError::Answer { url: url.clone(), source })?;
        // It becomes a directory's name.
        if listing.sha.is_empty() || !listing.sha.bytes().all(|letter| letter.is_ascii_alphanumeric()) {
            use serde::de::Error as _;
            let source = serde_json::Error::custom(format!("the commit is {:?}", listing.sha));
            return Err(HubError::Answer { url, source });
        }
        Ok(listing)
    }

    /// An answer, whatever its status; of a file from the byte `start` on, if that is said.
    pub(super) fn get(&self, name: &HubName, url: &str, start: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.settings.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(start) = start.filter(|start| *start > 0) {
            request = request.header("range", format!("bytes={start}-"));
        }
        request.call().map_err(|error| self.unreachable(name, error))
    }

    fn unreachable(&self, name: &HubName, error: ureq::Error) -> HubError {
        let (repository, endpoint) = (name.to_string(), self.settings.endpoint.clone());
        HubError::Unreachable { repository, endpoint, source: Box::new(error) }
    }

    /// What an answer means that is none. The Hub says why in a header; without one, the status must do.
    pub(super) fn refusal(&self, name: &HubName, revision: &str, url: String, response: &Response<Body>) -> HubError {
        let (repository, endpoint) = (name.to_string(), self.settings.endpoint.clone());
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        match (code, response.status().as_u16()) {
            (Some("RepoNotFound"), _) | (None, 404) => HubError::NoRepository { repository, endpoint },
            (Some("RevisionNotFound"), _) => HubError::NoRevision { repository, revision: revision.to_owned() },
            (Some("GatedRepo"), _) | (None, 401 | 403) => HubError::Gated { repository, endpoint },
            (_, status) => HubError::Status { url, status },
        }
    }
}

/// A revision as one part of an address: branches may have slashes in their names.
pub(super) fn escaped(revision: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    revision.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_digest_or_by_gits_number() {
        let json = r#"{"sha": "abc", "siblings": [
            {"rfilename": "config.json", "blobId": "11", "size": 7},
            {"rfilename": "model.safetensors", "blobId": "22", "size": 9, "lfs": {"sha256": "33", "size": 9, "pointerSize": 1}},
            {"rfilename": "README.md"}]}"#;
        let listing: Listing = serde_json::from_str(json).unwrap();
        let known = |name| {
            let Wanted { etag, size, is_digest, .. } = listing.file(name);
            (listing.has(name), etag.map(str::to_owned), size, is_digest)
        };
        assert_eq!(known("config.json"), (true, Some("11".to_owned()), 7, false));
        assert_eq!(known("model.safetensors"), (true, Some("33".to_owned()), 9, true));
        assert_eq!(known("README.md"), (true, None, 0, false));
        assert_eq!(known("none"), (false, None, 0, false));
    }

    #[test]
    fn a_branch_with_slashes_is_one_part_of_an_address() {
        assert_eq!(escaped("refs/pr/1 b"), "refs%2Fpr%2F1%20b");
    }
}
