//! The coordinator's own certificate, which replaces itself.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    Timestamp,
    identity::pki::{Authority, PkiError, PkiPaths, SERVER_LIFETIME_MS, host_names, issue_server, not_after, replace},
};

/// How long before its end a certificate is replaced, ms: a twelfth of its life, thirty days.
const EARLY_MS: u64 = SERVER_LIFETIME_MS / 12;

/// How long to wait after a replacement failed, ms.
const RETRY_MS: u64 = 60 * 60 * 1000;

/// The certificate that handshakes present. A younger one takes its place for handshakes that begin later, and leaves
/// open connections alone.
pub struct ServerCertificate {
    paths: PkiPaths,
    authority: Authority,
    current: RwLock<Arc<CertifiedKey>>,
    /// When to replace it, ms since the Unix epoch.
    due: AtomicU64,
    renewing: Mutex<()>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("path", &self.paths.server).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// Reads certificate, key and authority.
    ///
    /// # Errors
    /// A file that is missing or holds something else.
    pub fn load(paths: &PkiPaths) -> Result<Self, PkiError> {
        let authority = Authority::load(paths)?;
        let key = read(&paths.server)?;
        let end = end_of(&key, &paths.server)?;
        Ok(Self {
            paths: paths.clone(),
            authority,
            current: RwLock::new(Arc::new(key)),
            due: AtomicU64::new(due(end)),
            renewing: Mutex::new(()),
        })
    }

    /// The authority that signed it, which clients are checked against too.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether it is time for a younger one. Costs nothing: asked on every connection.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        now.0 >= self.due.load(Ordering::Relaxed)
    }

    /// Replaces the certificate if it is near its end: a new key, the same hosts. Reads and writes files. True if it did.
    ///
    /// # Errors
    /// Signing fails, or the file cannot be written; the old one stays, and an hour passes before the next attempt.
    pub fn renew_if_due(&self, now: Timestamp) -> Result<bool, PkiError> {
        let _renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_due(now) {
            return Ok(false);
        }
        self.due.store((now + RETRY_MS).0, Ordering::Relaxed);
        let bad = |expected| PkiError::BadFile { path: self.paths.server.clone(), expected };
        let old = Arc::clone(&self.current());
        let hosts = old.cert.first().and_then(|der| host_names(der)).ok_or_else(|| bad("a certificate with hosts"))?;
        let fresh = issue_server(&self.authority, &hosts, now)?;
        replace(&self.paths.server, fresh.as_bytes())?;
        let key = read(&self.paths.server)?;
        let end = end_of(&key, &self.paths.server)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        self.due.store(due(end), Ordering::Relaxed);
        tracing::info!(not_after_ms = end.0, "server-certificate-renewed");
        Ok(true)
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn due(end: Timestamp) -> u64 {
    end.0.saturating_sub(EARLY_MS)
}

fn end_of(key: &CertifiedKey, path: &Path) -> Result<Timestamp, PkiError> {
    let end = key.cert.first().and_then(|der| not_after(der));
    end.ok_or_else(|| PkiError::BadFile { path: path.into(), expected: "a certificate" })
}

fn read(path: &Path) -> Result<CertifiedKey, PkiError> {
    let bytes = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => PkiError::NoAuthority { path: path.into() },
        _ => PkiError::Io { path: path.into(), source },
    })?;
    let bad = |expected| PkiError::BadFile { path: path.into(), expected };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| bad("a certificate in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| bad("a private key in PEM beside its certificate"))?;
    let belong = bad("a certificate and the private key that belongs to it");
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|_| belong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::pki::init_pki;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_certificate_near_its_end_is_replaced_once_for_the_same_hosts() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = init_pki(folder.path(), &["fl.example.org".into(), "10.0.0.7".into()], NOW).expect("an authority");
        let certificate = ServerCertificate::load(&paths).expect("a certificate");
        let before = certificate.current();
        let late = NOW + (SERVER_LIFETIME_MS - EARLY_MS);
        assert!(!certificate.renew_if_due(Timestamp(late.0 - 1000)).expect("checked"));
        assert!(certificate.renew_if_due(late).expect("renewed"));
        assert!(!certificate.renew_if_due(late).expect("checked"), "the new one is young");

        let after = certificate.current();
        assert_ne!(before.cert, after.cert);
        assert_eq!(host_names(&before.cert[0]), host_names(&after.cert[0]));
        assert_eq!(not_after(&after.cert[0]), Some(late + SERVER_LIFETIME_MS));
        assert_eq!(read(&paths.server).expect("a file").cert, after.cert, "a restart finds the new one");
    }

    #[test]
    fn a_failed_replacement_keeps_the_old_certificate_and_waits_an_hour() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = init_pki(&folder.path().join("pki"), &[], NOW).expect("an authority");
        let certificate = ServerCertificate::load(&paths).expect("a certificate");
        let before = certificate.current();
        std::fs::remove_dir_all(folder.path().join("pki")).expect("removed");
        let late = NOW + SERVER_LIFETIME_MS;
        assert!(certificate.renew_if_due(late).is_err());
        assert!(!certificate.is_due(late + (RETRY_MS - 1)));
        assert!(certificate.is_due(late + RETRY_MS));
        assert_eq!(certificate.current().cert, before.cert);
    }
}
