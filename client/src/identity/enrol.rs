//! Getting an identity: the key is made here, only a request for a certificate travels.

use std::{fs, path::Path};

use fedlora_proto::{PROTOCOL_VERSION, federation::EnrolRequest, federation::EnrolResponse};
use rcgen::{CertificateParams, KeyPair};

use super::{IdentityError, Named};
use crate::{
    dialer::{Dialer, Unreachable},
    files,
};

/// What an enrolment came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The client's number and name.
    pub named: Named,
    /// When the certificate ends, ms since the Unix epoch.
    pub not_after_ms: u64,
}

/// A new key, ECDSA over P-256.
///
/// # Errors
/// The system has no randomness.
pub fn new_key() -> Result<KeyPair, IdentityError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

/// A request in PEM for a certificate of a key. It carries no name: the coordinator decides who the client is.
///
/// # Errors
/// A key that cannot sign.
pub fn request(key: &KeyPair) -> Result<String, IdentityError> {
    Ok(CertificateParams::default().serialize_request(key)?.pem()?)
}

/// Trades a one-time token for an identity and writes it into a folder. `ca_pem` is whom the client trusts from then
/// on; none for clear text.
///
/// # Errors
/// A folder that holds an identity already or cannot be written; a coordinator that cannot be reached or refuses.
pub async fn enrol(dialer: &Dialer, token: &str, folder: &Path, ca_pem: Option<&str>) -> Result<Enrolment, EnrolError> {
    if folder.join("certificate.pem").exists() {
        return Err(IdentityError::Exists { path: folder.to_owned() }.into());
    }
    let key = new_key()?;
    // Before the token is used up: a folder that cannot be written must not cost it.
    files::write_secret(&folder.join("key.pem"), key.serialize_pem().as_bytes()).map_err(IdentityError::from)?;
    let message =
        EnrolRequest { token: token.trim().to_owned(), csr_pem: request(&key)?, protocol_version: PROTOCOL_VERSION };
    let answer = dialer.identity().enrol(dialer.request(message)).await;
    let answer = answer.map_err(|status| dialer.unreachable(&status))?.into_inner();
    let named = Named { client_id: answer.client_id, name: answer.name.clone() };
    store(folder, &named, &answer, ca_pem)?;
    Ok(Enrolment { named, not_after_ms: answer.not_after_ms })
}

fn store(folder: &Path, named: &Named, answer: &EnrolResponse, ca_pem: Option<&str>) -> Result<(), IdentityError> {
    if let Some(ca_pem) = ca_pem {
        files::write_atomically(&folder.join("ca.pem"), ca_pem.as_bytes())?;
    }
    if !answer.access_token.is_empty() {
        files::write_secret(&folder.join("access-token"), answer.access_token.as_bytes())?;
    }
    let json = serde_json::to_vec_pretty(named).unwrap_or_default();
    files::write_atomically(&folder.join("identity.json"), &json)?;
    store_certificate(folder, &answer.certificate_pem)
}

/// Replaces the certificate of a folder.
///
/// # Errors
/// A file that cannot be written; the old certificate then stays.
pub fn store_certificate(folder: &Path, certificate_pem: &str) -> Result<(), IdentityError> {
    Ok(files::write_atomically(&folder.join("certificate.pem"), certificate_pem.as_bytes())?)
}

/// Why there is no new identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// The identity's own files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The coordinator cannot be reached, or refuses.
    #[error("the coordinator gave no certificate")]
    Unreachable(#[from] Unreachable),
}

/// Reads a token from a file, or from standard input where the name is `-`.
///
/// # Errors
/// A file that cannot be read.
pub fn read_token(file: &Path) -> Result<String, IdentityError> {
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { fs::read_to_string(file) };
    text.map_err(|source| IdentityError::Read { path: file.to_owned(), source })
}
