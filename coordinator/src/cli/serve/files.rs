//! How many files may be open: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this there is a warning: a thousand clients, and what they upload and download.
const FEW: u64 = 4096;

/// Takes as many as the system lets a process have. The lower limit that shells and service managers begin with is there
/// for programs that use `select`, which this one does not.
pub(super) fn allow_many() {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "limit-of-open-files-not-raised");
    }
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < FEW) {
        tracing::warn!(files, "few-open-files-for-many-clients");
    }
}
