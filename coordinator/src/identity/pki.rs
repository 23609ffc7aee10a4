//! The coordinator's own certificate authority.
//!
//! It signs two kinds of certificates and nothing else: the coordinator's own, for the names it is reached by, and those
//! of enrolled clients. Keys are ECDSA over P-256. The authority lives ten years, the coordinator's certificate one year
//! and a client's at most thirty days; the latter two are renewed while the processes run.

mod authority;
mod error;
mod files;
mod init;
mod parsed;
mod paths;
mod request;
mod validity;

pub use authority::{Authority, Issued};
pub use error::PkiError;
pub use files::write_new;
pub use init::{ALWAYS_HOSTS, init_pki};
pub use parsed::PeerCertificate;
pub use paths::PkiPaths;
pub use request::CertificateRequest;
pub use validity::{AUTHORITY_LIFETIME_MS, MAX_CLIENT_LIFETIME_MS, SERVER_LIFETIME_MS};

pub(crate) use authority::new_key;
pub(crate) use files::replace;
pub(crate) use init::issue_server;
pub(crate) use parsed::{host_names, not_after};

/// Random bytes from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(PkiError::NoRandomness)?;
    Ok(bytes)
}
