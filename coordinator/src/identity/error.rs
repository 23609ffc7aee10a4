//! Everything that can be wrong with an identity.

use std::path::PathBuf;

use fedlora_adapter::ClientId;

use super::{Fingerprint, Role, pki::PkiError};

/// Why an identity was refused, or the register could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The call carries no certificate, or no access token.
    #[error("this call needs {wanted}: enrol first, and connect with what enrolling wrote")]
    NoCredentials {
        /// What is missing.
        wanted: &'static str,
    },
    /// A certificate that this coordinator did not issue, or has forgotten.
    #[error("no client has a certificate with the key {fingerprint}: enrol again with a new token")]
    UnknownCertificate {
        /// Its key.
        fingerprint: Fingerprint,
    },
    /// A certificate whose time is over.
    #[error("the certificate of {name} has expired: enrol again with a new token")]
    ExpiredCertificate {
        /// Whose it was.
        name: String,
    },
    /// The client's right to connect was taken away.
    #[error("{name} was revoked by an operator")]
    Revoked {
        /// The client's name.
        name: String,
    },
    /// The role does not allow the call.
    #[error("this call needs the role {needed}, and {name} has the role {found}")]
    WrongRole {
        /// Who called.
        name: String,
        /// The role that the call needs.
        needed: Role,
        /// The caller's role.
        found: Role,
    },
    /// No such token: mistyped, or of another coordinator.
    #[error("the token is not one of this coordinator's: was it copied as a whole?")]
    UnknownToken,
    /// The token has done its work.
    #[error("token {token_id} has been used: each token enrols one client, so ask the operator for a new one")]
    UsedToken {
        /// Public identifier.
        token_id: String,
    },
    /// The token's time is over.
    #[error("token {token_id} has expired: ask the operator for a new one")]
    ExpiredToken {
        /// Public identifier.
        token_id: String,
    },
    /// The token was taken away.
    #[error("token {token_id} was revoked by an operator")]
    RevokedToken {
        /// Public identifier.
        token_id: String,
    },
    /// An access token whose time is over.
    #[error("the access token of {name} has expired: enrol again with a new token")]
    ExpiredAccess {
        /// Whose it was.
        name: String,
    },
    /// Somebody else has the name.
    #[error("the name {name} belongs to {client}: revoke it first, or choose another name")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it, or will have it.
        client: ClientId,
    },
    /// Somebody else has the number.
    #[error("{client} is {name}: a number belongs to one name for good")]
    NumberTaken {
        /// The number.
        client: ClientId,
        /// Who has it, or will have it.
        name: String,
    },
    /// Another client has the key, or a revoked one had it.
    #[error("the key {fingerprint} is in use or was revoked: make a new one")]
    KeyTaken {
        /// The key.
        fingerprint: Fingerprint,
    },
    /// A name that is empty, too long or holds other characters than names may.
    #[error("the name {name:?} must be 1 to 64 bytes of {rule}")]
    BadName {
        /// The beginning of the name.
        name: String,
        /// What names are made of.
        rule: &'static str,
    },
    /// A role that does not exist.
    #[error("the role {role:?} is none of client, operator, auditor")]
    UnknownRole {
        /// What was asked for.
        role: String,
    },
    /// A token that could be used never, or for too long.
    #[error("a token's lifetime must be 1 ms to {max_ms} ms, found {ttl_ms} ms")]
    BadLifetime {
        /// What was asked for.
        ttl_ms: u64,
        /// The most.
        max_ms: u64,
    },
    /// The institution has as many clients as it may have.
    #[error("{institution} has {limit} clients, and may not have more")]
    TooManyClients {
        /// The institution.
        institution: String,
        /// The most.
        limit: usize,
    },
    /// A client that renews without end.
    #[error("{name} has {limit} valid certificates, and gets no more before one of them ends")]
    TooManyCertificates {
        /// The client's name.
        name: String,
        /// The most.
        limit: usize,
    },
    /// No such client.
    #[error("no client is called or numbered {wanted:?}")]
    UnknownClient {
        /// The name or number.
        wanted: String,
    },
    /// No such token identifier.
    #[error("no token has the identifier {token_id:?}")]
    UnknownTokenId {
        /// What was asked for.
        token_id: String,
    },
    /// A certificate request or a certificate that cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Another process has the register open.
    #[error("{} is in use: while `serve` runs, ask it instead of its files", path.display())]
    InUse {
        /// The register.
        path: PathBuf,
    },
    /// The register is of another version of this software.
    #[error("{} has version {found}, and this software reads version {expected}", path.display())]
    Version {
        /// The register.
        path: PathBuf,
        /// What this software writes.
        expected: u64,
        /// What the file says.
        found: u64,
    },
    /// The register cannot be opened.
    #[error("{}", path.display())]
    Io {
        /// The register.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The register cannot be read or written.
    #[error("{}", path.display())]
    Storage {
        /// The register.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A record that is no record.
    #[error("{}: a damaged record", path.display())]
    Record {
        /// The register.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl IdentityError {
    /// Stable code; scripts and clients may match on it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCredentials { .. } => "CREDENTIALS_MISSING",
            Self::UnknownCertificate { .. } => "CERTIFICATE_UNKNOWN",
            Self::ExpiredCertificate { .. } => "CERTIFICATE_EXPIRED",
            Self::Revoked { .. } => "REVOKED",
            Self::WrongRole { .. } => "WRONG_ROLE",
            Self::UnknownToken => "TOKEN_UNKNOWN",
            Self::UsedToken { .. } => "TOKEN_USED",
            Self::ExpiredToken { .. } | Self::ExpiredAccess { .. } => "TOKEN_EXPIRED",
            Self::RevokedToken { .. } => "TOKEN_REVOKED",
            Self::NameTaken { .. } => "NAME_TAKEN",
            Self::NumberTaken { .. } => "NUMBER_TAKEN",
            Self::KeyTaken { .. } | Self::Pki(PkiError::BadRequest { .. }) => "BAD_CSR",
            Self::BadName { .. } => "BAD_NAME",
            Self::UnknownRole { .. } => "UNKNOWN_ROLE",
            Self::BadLifetime { .. } => "BAD_LIFETIME",
            Self::TooManyClients { .. } => "TOO_MANY_CLIENTS",
            Self::TooManyCertificates { .. } => "TOO_MANY_CERTIFICATES",
            Self::UnknownClient { .. } => "CLIENT_UNKNOWN",
            Self::UnknownTokenId { .. } => "TOKEN_ID_UNKNOWN",
            Self::Pki(_)
            | Self::InUse { .. }
            | Self::Version { .. }
            | Self::Io { .. }
            | Self::Storage { .. }
            | Self::Record { .. } => "INTERNAL",
        }
    }
}
