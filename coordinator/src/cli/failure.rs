//! Why a command failed: plain words, the next step, and the exit code.

use std::{fmt, io, path::Path};

use tonic::{Code, Status};

use crate::{grpc::operator::REASON_KEY, plain::chain};

/// Configuration or command line.
const CONFIGURATION: u8 = 2;
/// The description of the model.
const MODEL: u8 = 3;
/// The coordinator refused, or the run failed.
pub(super) const REFUSED: u8 = 4;
/// Files and output.
const FILES: u8 = 5;
/// The coordinator cannot be reached, or not trusted.
const UNREACHABLE: u8 = 6;
/// The identity may not do that.
const NOT_ALLOWED: u8 = 7;

/// How the words about a broken connection begin.
const BROKE: &str = "the connection to the coordinator broke";

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    exit_code: u8,
    message: String,
    reason: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self { exit_code, message: message.into(), reason: None }
    }

    pub(super) fn configuration(message: impl Into<String>) -> Self {
        Self::new(CONFIGURATION, message)
    }

    pub(super) fn model(message: impl Into<String>) -> Self {
        Self::new(MODEL, message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(REFUSED, message)
    }

    pub(super) fn files(message: impl Into<String>) -> Self {
        Self::new(FILES, message)
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(UNREACHABLE, message)
    }

    /// A file that cannot be read or written.
    pub(super) fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::files(format!("cannot {what} {}: {error}", path.display()))
    }

    /// An answer that cannot be written.
    pub(super) fn output(error: &io::Error) -> Self {
        Self::files(format!("cannot write the answer: {error}"))
    }

    /// What the coordinator, or the way to it, answered instead.
    pub(super) fn of(status: &Status) -> Self {
        let reason = status.metadata().get(REASON_KEY).and_then(|value| value.to_str().ok());
        let broken = std::error::Error::source(status).is_some();
        let (exit_code, message) = match status.code() {
            _ if broken => (UNREACHABLE, lost(status)),
            Code::InvalidArgument => (CONFIGURATION, format!("the coordinator refused: {}", status.message())),
            Code::Unauthenticated | Code::PermissionDenied => {
                (NOT_ALLOWED, format!("not allowed: {}", status.message()))
            }
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
                (UNREACHABLE, format!("the coordinator is not available: {}", status.message()))
            }
            Code::Unimplemented => (REFUSED, "the coordinator is of an older version and cannot do that".to_owned()),
            _ => (REFUSED, format!("the coordinator refused: {}", status.message())),
        };
        let exit_code = if reason == Some("BAD_MODEL") { MODEL } else { exit_code };
        let message = reason.and_then(next_step).map_or(message.clone(), |next| format!("{message}; {next}"));
        Self { exit_code, message, reason: reason.map(str::to_owned) }
    }

    /// The same, with what to look at if the connection broke.
    pub(super) fn over(mut self, is_clear_text: bool) -> Self {
        if self.message.starts_with(BROKE) {
            self.message += if is_clear_text {
                "; if the coordinator uses TLS, ask https:// without --insecure"
            } else {
                "; is it still running, and did it issue certificate.pem?"
            };
        }
        self
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// The coordinator's stable reason code, where it gave one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// A connection that broke. A server that turns a certificate away says so in a TLS alert after the handshake: it
/// arrives here and not while connecting.
fn lost(status: &Status) -> String {
    let words = std::error::Error::source(status).map(chain).unwrap_or_default();
    let alerts = [
        ("CertificateExpired", "the coordinator says that certificate.pem has expired: enrol again"),
        (
            "CertificateRequired",
            "the coordinator asks for a certificate: give --identity a folder with certificate.pem",
        ),
        ("UnknownCA", "the coordinator did not issue certificate.pem: is --identity the one for this coordinator?"),
        ("CertificateRevoked", "certificate.pem was revoked: ask an operator for a token and enrol again"),
        ("BadCertificate", "the coordinator does not accept certificate.pem: enrol again"),
    ];
    let known = alerts.iter().find(|(alert, _)| words.contains(alert)).map(|(_, words)| (*words).to_owned());
    known.unwrap_or_else(|| format!("{BROKE}: {words}"))
}

/// What helps against a reason.
fn next_step(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "WRONG_ROLE" => "use an identity that was enrolled with tokens create --role operator (or auditor, to look)",
        "REVOKED" => "ask an operator for a token and enrol again",
        "CERTIFICATE_UNKNOWN" => "is --identity the one for this coordinator?",
        "BAD_CONFIG" => "fedlora-coordinator config check tells more",
        "BAD_MODEL" => "fedlora-client describe writes a fitting description",
        _ => return None,
    })
}
