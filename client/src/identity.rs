//! Who a client is: its key, its certificate, whom it trusts; in a folder of its own.
//!
//! ```text
//! key.pem           made here, never leaves, readable by its owner alone
//! certificate.pem   from the coordinator, renews itself
//! ca.pem            whom the client trusts to be the coordinator; absent for clear text
//! access-token      names the client where TLS ends before the coordinator; readable by its owner alone
//! identity.json     the client's number and name
//! ```

mod certificate;
mod enrol;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::files::FileError;

pub use certificate::{Lifetime, lifetime};
pub use enrol::{EnrolError, Enrolment, enrol, new_key, read_token, request, store_certificate};

/// Why an identity cannot be used or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file is missing or cannot be read.
    #[error("cannot read {path}; `fedlora-client enroll` makes an identity")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// A file holds something else.
    #[error("{path} is no {expected}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// There is an identity already.
    #[error("{path} holds an identity already; enrol into another folder, or remove this one to give it up")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A key or request that cannot be made.
    #[error("cannot make a key and a certificate request")]
    Request(#[from] rcgen::Error),
}

/// A client's number and name, as the coordinator gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The client's number.
    pub client_id: u64,
    /// The name that the operator gave it.
    pub name: String,
}

/// A client's identity. Secrets do not show in its debug form.
#[derive(Clone)]
pub struct Identity {
    folder: PathBuf,
    /// Number and name.
    pub named: Named,
    /// The certificate in PEM.
    pub certificate_pem: String,
    pub(crate) key_pem: String,
    /// Whom the client trusts, in PEM.
    pub ca_pem: Option<String>,
    pub(crate) access_token: Option<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("folder", &self.folder).field("named", &self.named).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads an identity's folder.
    ///
    /// # Errors
    /// A file that is missing or makes no sense.
    pub fn load(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join("identity.json");
        let named = serde_json::from_str(&read(&path)?)
            .map_err(|_| IdentityError::Content { path, expected: "identity written by fedlora-client enroll" })?;
        let optional = |name: &str| {
            let path = folder.join(name);
            if path.exists() { read(&path).map(Some) } else { Ok(None) }
        };
        Ok(Self {
            folder: folder.to_owned(),
            named,
            certificate_pem: read(&folder.join("certificate.pem"))?,
            key_pem: read(&folder.join("key.pem"))?,
            ca_pem: optional("ca.pem")?,
            access_token: optional("access-token")?.map(|token| token.trim().to_owned()),
        })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn read(path: &Path) -> Result<String, IdentityError> {
    fs::read_to_string(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })
}
