//! What is read back from certificates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{super::Fingerprint, PkiError, validity::timestamp};
use crate::Timestamp;

/// What matters of a certificate that TLS has verified.
#[derive(Debug, Clone)]
pub struct PeerCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its key.
    pub fingerprint: Fingerprint,
    /// When it ends.
    pub not_after: Timestamp,
}

impl PeerCertificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is none.
    pub fn new(der: CertificateDer<'static>) -> Result<Self, PkiError> {
        let certificate = parse(&der).ok_or(PkiError::BadCertificate)?;
        let fingerprint = Fingerprint::of(certificate.public_key().raw);
        let not_after = timestamp(certificate.validity().not_after);
        Ok(Self { der, fingerprint, not_after })
    }
}

/// When a certificate ends.
pub(crate) fn not_after(der: &[u8]) -> Option<Timestamp> {
    Some(timestamp(parse(der)?.validity().not_after))
}

/// When the certificate of an authority ends; none for one that is no authority's.
pub(super) fn authority_end(der: &[u8]) -> Option<Timestamp> {
    let certificate = parse(der)?;
    certificate.is_ca().then(|| timestamp(certificate.validity().not_after))
}

/// The key of a certificate.
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    Some(parse(der)?.public_key().raw.to_vec())
}

/// The hosts that a certificate is for.
pub(crate) fn host_names(der: &[u8]) -> Option<Vec<String>> {
    let certificate = parse(der)?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().map(host_name).collect()
}

fn host_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).into()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}
