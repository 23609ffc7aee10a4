//! What can be wrong with keys, certificates and their files.

use std::path::PathBuf;

/// Why a file of the authority, a certificate or a request for one cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// There is no authority yet.
    #[error("{} does not exist: make an authority with `fedlora-coordinator pki init`", path.display())]
    NoAuthority {
        /// The file looked for.
        path: PathBuf,
    },
    /// A file that would be overwritten.
    #[error("{} exists, and is not overwritten: what it signed would become worthless", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{}: expected {expected}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// A name that no certificate can be for.
    #[error("the host {host:?} is neither a DNS name nor an IP address")]
    BadHost {
        /// The name.
        host: String,
    },
    /// A certificate request that is not accepted.
    #[error("the certificate request {fault}")]
    BadRequest {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A peer's certificate that TLS accepted and that cannot be read.
    #[error("the certificate cannot be read")]
    BadCertificate,
    /// A time that certificates cannot express.
    #[error("the time {seconds} s after 1970 does not fit a certificate")]
    BadTime {
        /// The time.
        seconds: u64,
    },
    /// Signing failed.
    #[error("signing failed")]
    Sign(#[source] rcgen::Error),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness(#[source] getrandom::Error),
}
