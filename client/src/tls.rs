//! TLS as a client speaks it: whom it trusts, what it shows, and what its failures mean.

use std::{
    error::Error,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate in a PEM text.
    #[error("{what} holds no certificate in PEM")]
    NoCertificate {
        /// Which.
        what: &'static str,
    },
    /// No usable private key.
    #[error("key.pem holds no usable private key")]
    Key,
    /// What TLS itself says.
    #[error("TLS cannot use {what}")]
    Rejected {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The certificate that a client shows; it can be replaced while connections go on.
#[derive(Default)]
pub struct Shown(Mutex<Option<Arc<CertifiedKey>>>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl Shown {
    /// Shows this certificate from the next handshake on.
    ///
    /// # Errors
    /// A text without certificate or key, or a key of a kind that TLS does not have.
    pub fn replace(&self, certificate_pem: &str, key_pem: &str) -> Result<(), TlsError> {
        let chain = certificates("certificate.pem", certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TlsError::Key)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|source| TlsError::Rejected { what: "certificate.pem with key.pem", source })?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_certs(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// TLS towards a coordinator that one of these authorities vouches for.
///
/// # Errors
/// A text without a usable certificate.
pub(crate) fn client_config(ca_pem: &str, shown: Arc<Shown>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.pem", ca_pem)? {
        roots.add(certificate).map_err(|source| TlsError::Rejected { what: "ca.pem", source })?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Rejected { what: "its own defaults", source })?;
    let mut config = builder.with_root_certificates(roots).with_client_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(TlsError::NoCertificate { what })
}

/// What a failed connection to `host` means, and what to do, in the words of a person.
#[must_use]
pub(crate) fn explain(error: &io::Error, host: &str) -> String {
    match tls_cause(error) {
        Some(cause) => explain_tls(cause, host),
        None => match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "nobody listens there: is the coordinator running, and is the port right?".to_owned()
            }
            io::ErrorKind::TimedOut => {
                "no answer: a firewall may be in the way, or the address may be wrong".to_owned()
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the other side hung up during the handshake: it may not speak TLS, or may not accept this client"
                    .to_owned()
            }
            _ => error.to_string(),
        },
    }
}

/// The TLS error inside an I/O error.
fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

fn explain_tls(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => explain_certificate(reason, host),
        rustls::Error::InvalidMessage(_) => {
            "it answered in clear text: it does not serve TLS on this port; use the TLS port, or http:// with \
             --insecure for a coordinator on this machine"
                .to_owned()
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => {
                "it says that this client's certificate has expired: check this machine's clock, or enrol again"
                    .to_owned()
            }
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                format!(
                    "it does not accept this client's certificate ({alert:?}): the identity is another coordinator's"
                )
            }
            AlertDescription::CertificateRequired => {
                "it wants a client certificate: enrol first, and point `identity` to that folder".to_owned()
            }
            other => format!("it ended the TLS handshake: {other:?}"),
        },
        other => format!("TLS failed: {other}"),
    }
}

fn explain_certificate(reason: &CertificateError, host: &str) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or this machine's clock is ahead: check the clock, then renew the \
             coordinator's certificate"
                .to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: this machine's clock is probably behind".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not from the authority in ca.pem: this is another server, or ca.pem is another \
             coordinator's"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "its certificate is not made for the name {host}: use a name that it is made for, or make one for {host}"
            )
        }
        other => format!("its certificate is not acceptable: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: rustls::Error) -> String {
        explain(&io::Error::new(io::ErrorKind::InvalidData, error), "example.org")
    }

    #[test]
    fn usual_mistakes_are_told_with_what_to_do() {
        let certificate = rustls::Error::InvalidCertificate;
        assert!(said(certificate(CertificateError::Expired)).contains("clock is ahead"));
        assert!(said(certificate(CertificateError::NotValidYet)).contains("clock is probably behind"));
        assert!(said(certificate(CertificateError::UnknownIssuer)).contains("not from the authority in ca.pem"));
        assert!(said(certificate(CertificateError::NotValidForName)).contains("not made for the name example.org"));
        let clear = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert!(said(clear).contains("answered in clear text"));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(explain(&refused, "example.org").contains("nobody listens there"));
    }

    #[test]
    fn texts_without_certificates_are_refused() {
        let error = client_config("nothing", Arc::default()).expect_err("no certificate").to_string();
        assert_eq!(error, "ca.pem holds no certificate in PEM");
    }
}
