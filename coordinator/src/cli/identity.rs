//! The folder that says who is calling: `ca.pem`, `certificate.pem` and `key.pem`, or `access-token`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use x509_parser::parse_x509_certificate;

use super::{Failure, words};
use crate::Timestamp;

/// The certificate authority that the coordinator must be signed by.
pub(super) const CA: &str = "ca.pem";
/// Who we are.
pub(super) const CERTIFICATE: &str = "certificate.pem";
/// The proof.
pub(super) const KEY: &str = "key.pem";
/// The proof where TLS ends before the coordinator.
pub(super) const ACCESS_TOKEN: &str = "access-token";

/// An identity's folder.
#[derive(Debug)]
pub(super) struct Identity {
    folder: PathBuf,
}

impl Identity {
    /// The folder, if it is there.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        if folder.is_dir() {
            return Ok(Self { folder: folder.to_owned() });
        }
        let shown = folder.display();
        Err(Failure::files(format!("--identity {shown}: no such folder; `pki init --dir STATE` makes STATE/operator")))
    }

    /// Where a file of it is, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The secret that is sent with every call, if there is one.
    pub(super) fn access_token(&self) -> Result<Option<String>, Failure> {
        let path = self.path(ACCESS_TOKEN);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::file("read", &path, &error)),
        }
    }

    /// Whom to trust.
    pub(super) fn roots(&self) -> Result<RootCertStore, Failure> {
        let path = self.path(CA);
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&path)? {
            let added = roots.add(certificate);
            added.map_err(|error| Failure::files(format!("{} cannot be used: {error}", path.display())))?;
        }
        Ok(roots)
    }

    /// Certificate and key, if the folder has both; an error if it has one of them, or if the certificate's time is
    /// over or yet to come.
    pub(super) fn certificate(
        &self,
        now: Timestamp,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Failure> {
        let (certificate, key) = (self.path(CERTIFICATE), self.path(KEY));
        if !certificate.exists() && !key.exists() {
            return Ok(None);
        }
        let chain = certificates(&certificate)?;
        if let Some(first) = chain.first() {
            check_dates(first, &certificate, now)?;
        }
        let key = PrivateKeyDer::from_pem_file(&key)
            .map_err(|error| Failure::files(format!("cannot read a private key from {}: {error}", key.display())))?;
        Ok(Some((chain, key)))
    }
}

/// All certificates of a file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let shown = path.display();
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| Failure::files(format!("cannot read certificates from {shown}: {error}")))?;
    if found.is_empty() {
        return Err(Failure::files(format!("{shown} holds no certificate")));
    }
    Ok(found)
}

/// The server would turn such a certificate away in fewer words.
fn check_dates(certificate: &CertificateDer<'_>, path: &Path, now: Timestamp) -> Result<(), Failure> {
    let shown = path.display();
    let (_, parsed) = parse_x509_certificate(certificate)
        .map_err(|error| Failure::files(format!("{shown} holds no X.509 certificate: {error}")))?;
    let at_ms = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
    let (begins, ends) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let clock = format!("this machine's clock says {}", words::time(now.0));
    if now.0 > at_ms(ends) {
        let ended = words::time(at_ms(ends));
        return Err(Failure::unreachable(format!(
            "{shown} expired at {ended}; {clock}; ask an operator for a token and enrol again"
        )));
    }
    if now.0 < at_ms(begins) {
        let begins = words::time(at_ms(begins));
        return Err(Failure::unreachable(format!("{shown} is not valid before {begins}; {clock}: is it right?")));
    }
    Ok(())
}
