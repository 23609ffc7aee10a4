//! How connections are protected, and how many may be starting.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig, crypto::ring, pki_types::UnixTime, server::WebPkiClientVerifier,
    time_provider::TimeProvider,
};

use super::ServerCertificate;
use crate::identity::{
    Now,
    pki::{PkiError, PkiPaths},
};

/// Why connections cannot be protected as asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Clear text would leave this machine.
    #[error("clear text on {address} could be read by others: listen on 127.0.0.1 or ::1, or use TLS")]
    NotLoopback {
        /// Where to listen.
        address: SocketAddr,
    },
    /// A file of the authority.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The authority's certificate cannot be used for checking others.
    #[error("the authority's certificate cannot be used")]
    Authority(#[source] rustls::Error),
    /// No way of checking client certificates.
    #[error("client certificates cannot be checked")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// Settings of [`tls_incoming`](super::tls_incoming).
#[derive(Clone)]
pub struct TlsSettings {
    pub(super) protection: Protection,
    pub(super) now: Now,
    /// A handshake that takes longer is cut off.
    pub handshake_timeout: Duration,
    /// How long a handshake whose client has said hello keeps its place even where others wait for one.
    pub handshake_grace: Duration,
    /// Handshakes at a time; where more want to begin, the oldest is cut off.
    pub max_handshakes: usize,
    /// Handshakes at a time with one address (with one /64 of IPv6).
    pub max_handshakes_per_address: usize,
}

/// The three ways.
#[derive(Debug, Clone)]
pub(super) enum Protection {
    Tls { config: Arc<ServerConfig>, certificate: Arc<ServerCertificate> },
    ClearText,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protection = match &self.protection {
            Protection::Tls { certificate, .. } => format!("{certificate:?}"),
            Protection::ClearText => "clear text".into(),
        };
        f.debug_struct("TlsSettings").field("protection", &protection).finish_non_exhaustive()
    }
}

impl TlsSettings {
    /// TLS that asks clients for a certificate of the same authority, with [`Authenticator::Certificates`].
    ///
    /// [`Authenticator::Certificates`]: crate::Authenticator::Certificates
    ///
    /// # Errors
    /// A file of the authority that is missing or holds something else.
    pub fn mutual(paths: &PkiPaths, now: Now) -> Result<Self, TlsError> {
        Self::tls(paths, now, true)
    }

    /// TLS that asks clients for nothing, with [`Authenticator::Bearer`]: for a load balancer in front that ends the
    /// clients' TLS.
    ///
    /// [`Authenticator::Bearer`]: crate::Authenticator::Bearer
    ///
    /// # Errors
    /// A file of the authority that is missing or holds something else.
    pub fn one_way(paths: &PkiPaths, now: Now) -> Result<Self, TlsError> {
        Self::tls(paths, now, false)
    }

    /// No protection, for processes of one machine.
    ///
    /// # Errors
    /// An address that other machines reach.
    pub fn clear_text(address: SocketAddr, now: Now) -> Result<Self, TlsError> {
        if !address.ip().to_canonical().is_loopback() {
            return Err(TlsError::NotLoopback { address });
        }
        Ok(Self::new(Protection::ClearText, now))
    }

    fn new(protection: Protection, now: Now) -> Self {
        Self {
            protection,
            now,
            handshake_timeout: Duration::from_secs(10),
            // Enough for a few hundred handshakes side by side on a busy core.
            handshake_grace: Duration::from_secs(2),
            max_handshakes: 1024,
            max_handshakes_per_address: 256,
        }
    }

    fn tls(paths: &PkiPaths, now: Now, ask_for_certificate: bool) -> Result<Self, TlsError> {
        let certificate = Arc::new(ServerCertificate::load(paths)?);
        let provider = Arc::new(ring::default_provider());
        let clock = Arc::new(Clock(Arc::clone(&now)));
        let builder = ServerConfig::builder_with_details(Arc::clone(&provider), clock);
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Authority)?;
        let builder = if ask_for_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.authority().der().clone()).map_err(TlsError::Authority)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().map_err(TlsError::Verifier)?)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self::new(Protection::Tls { config: Arc::new(config), certificate }, now))
    }
}

/// Certificates are judged by the same clock as everything else.
struct Clock(Now);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis((self.0)().0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn clear_text_stays_on_this_machine() {
        let now: Now = Arc::new(|| Timestamp(0));
        for address in ["127.0.0.1:0", "127.1.2.3:80", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(TlsSettings::clear_text(address.parse().expect("an address"), Arc::clone(&now)).is_ok());
        }
        for address in ["0.0.0.0:0", "[::]:0", "10.0.0.1:80", "192.0.2.1:80"] {
            let refused = TlsSettings::clear_text(address.parse().expect("an address"), Arc::clone(&now));
            assert!(matches!(refused, Err(TlsError::NotLoopback { .. })), "{address}");
        }
    }
}
