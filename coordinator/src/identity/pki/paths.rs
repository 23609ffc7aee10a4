//! Where the authority's files are.

use std::path::{Path, PathBuf};

/// The files of an authority in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiPaths {
    /// `ca.pem`: the authority's certificate, which every client has a copy of.
    pub ca: PathBuf,
    /// `ca-key.pem`: its key.
    pub ca_key: PathBuf,
    /// `server.pem`: the coordinator's certificate and its key in one file, so that a renewal replaces both at once.
    pub server: PathBuf,
}

impl PkiPaths {
    /// The files in a folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { ca: folder.join("ca.pem"), ca_key: folder.join("ca-key.pem"), server: folder.join("server.pem") }
    }

    /// The files below a state directory: in its folder `pki`.
    #[must_use]
    pub fn of_state(state: &Path) -> Self {
        Self::new(&state.join("pki"))
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> [&Path; 3] {
        [&self.ca, &self.ca_key, &self.server]
    }
}
