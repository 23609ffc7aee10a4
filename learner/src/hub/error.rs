//! Why a model could not be brought here, and what to do about it.

use std::{io, path::PathBuf};

use crate::LearnerError;

/// Why a model could not be brought here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No repository of this name that may be seen.
    #[error(
        "{endpoint} has no model {repository}, and there is no directory of that name: check model.path; for a private model \
         set HF_TOKEN"
    )]
    NoRepository {
        /// The repository.
        repository: String,
        /// Where it was asked for.
        endpoint: String,
    },
    /// A repository that lacks the revision.
    #[error("{repository} has no revision {revision}: check model.revision, a branch, a tag or a commit")]
    NoRevision {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
    },
    /// A repository whose owner lets in whom they want.
    #[error(
        "{repository} is not open to everybody: ask for access at {endpoint}/{repository}, then set HF_TOKEN to a token of \
         that account"
    )]
    Gated {
        /// The repository.
        repository: String,
        /// Where its page is.
        endpoint: String,
    },
    /// A file that the model needs is not in the repository.
    #[error("{repository} has no {file}: choose a repository with safetensors, or convert it and name the directory")]
    NoFile {
        /// The repository.
        repository: String,
        /// The file.
        file: &'static str,
    },
    /// Another answer than a file.
    #[error("{url} answers with status {status}: try again later, or check HF_ENDPOINT")]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP's number.
        status: u16,
    },
    /// An answer that makes no sense.
    #[error("{url} does not answer as the Hugging Face Hub does: check HF_ENDPOINT")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A listing without what a file is to be checked by.
    #[error("{repository}: the endpoint does not say what {file} holds: check HF_ENDPOINT")]
    Unlisted {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
    },
    /// No connection.
    #[error(
        "{repository} cannot be fetched, {endpoint} is out of reach: check the network, HF_ENDPOINT and HTTPS_PROXY, or name a \
         directory in model.path"
    )]
    Unreachable {
        /// The repository.
        repository: String,
        /// Where it was asked for.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// A connection that ended within a file.
    #[error(
        "{repository}: {file} was interrupted after {got} of {size} bytes: start again, what has come is kept and the rest \
         follows"
    )]
    Interrupted {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// Bytes here.
        got: u64,
        /// Bytes of the whole.
        size: u64,
        /// Why; none where the other side ended in good order, but too early.
        #[source]
        source: Option<io::Error>,
    },
    /// A file that is not what the Hub says it is.
    #[error("{repository}: {file} came with {found}, expected {expected}; it was thrown away: start again")]
    Damaged {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// Size or SHA-256 as listed.
        expected: String,
        /// What it has.
        found: String,
    },
    /// Nothing may be fetched, and the cache does not have it.
    #[error(
        "HF_HUB_OFFLINE is set and {} does not have {repository} at {revision} whole: unset it once to fetch the model, or \
         name a directory in model.path", cache.display()
    )]
    Offline {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// An index of weights that cannot be used.
    #[error("index of weights")]
    Index {
        /// Why.
        #[source]
        source: Box<LearnerError>,
    },
    /// A file here that cannot be read or written.
    #[error("cannot access {}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
