//! Who signs.

use std::{fmt, fs, io, path::Path};

use fedlora_adapter::ClientId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};

use super::{
    AUTHORITY_LIFETIME_MS, CertificateRequest, MAX_CLIENT_LIFETIME_MS, PkiError, PkiPaths, SERVER_LIFETIME_MS,
    parsed::{authority_end, public_key},
    random_bytes,
    validity::Validity,
};
use crate::Timestamp;

/// A certificate that was just signed.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate in PEM.
    pub pem: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    not_after: Timestamp,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority, and its key in PEM.
    ///
    /// # Errors
    /// No random bytes, or a time that does not fit a certificate.
    pub(super) fn generate(now: Timestamp) -> Result<(Self, String), PkiError> {
        let key = new_key()?;
        let key_pem = key.serialize_pem();
        // Two authorities never have the same name, so that a certificate of one is not tried against the other's key.
        let [a, b, c, d] = random_bytes()?;
        let validity = Validity::new(now, AUTHORITY_LIFETIME_MS, Timestamp(u64::MAX))?;
        let mut params = params(&format!("fedlora authority {a:02x}{b:02x}{c:02x}{d:02x}"), &validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(PkiError::Sign)?;
        let (ca_pem, ca_der) = (certificate.pem(), certificate.der().clone());
        Ok((Self { issuer: Issuer::new(params, key), ca_pem, ca_der, not_after: validity.end() }, key_pem))
    }

    /// The authority of a folder.
    ///
    /// # Errors
    /// There is none, a file cannot be read, or certificate and key do not belong together.
    pub fn load(paths: &PkiPaths) -> Result<Self, PkiError> {
        let ca_pem = read(&paths.ca)?;
        let bad = |expected| PkiError::BadFile { path: paths.ca.clone(), expected };
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|_| bad("a certificate in PEM"))?;
        let not_after = authority_end(&ca_der).ok_or_else(|| bad("the certificate of an authority"))?;
        let bad_key = |expected| PkiError::BadFile { path: paths.ca_key.clone(), expected };
        let key = KeyPair::from_pem(&read(&paths.ca_key)?).map_err(|_| bad_key("a private key in PEM"))?;
        if public_key(&ca_der) != Some(key.subject_public_key_info()) {
            return Err(bad_key("the key of the certificate beside it"));
        }
        let issuer = Issuer::from_ca_cert_der(&ca_der, key).map_err(PkiError::Sign)?;
        Ok(Self { issuer, ca_pem, ca_der, not_after })
    }

    /// The authority's certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority's certificate in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// Signs a client's certificate: for the name that the register knows, for use by clients alone, for at most thirty
    /// days. Of the request, only the key counts.
    ///
    /// # Errors
    /// Signing fails, or a time that does not fit a certificate.
    pub fn issue_client(
        &self,
        request: &CertificateRequest,
        client: ClientId,
        name: &str,
        now: Timestamp,
        lifetime_ms: u64,
    ) -> Result<Issued, PkiError> {
        let validity = Validity::new(now, lifetime_ms.min(MAX_CLIENT_LIFETIME_MS), self.not_after)?;
        let mut params = params(name, &validity)?;
        let uri = format!("fedlora:client/{}", client.0).try_into().map_err(PkiError::Sign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, request.key(), &validity)
    }

    /// Signs the coordinator's own certificate for host names and addresses.
    ///
    /// # Errors
    /// A host that is neither a DNS name nor an address, or signing fails.
    pub fn issue_server(&self, hosts: &[String], key: &KeyPair, now: Timestamp) -> Result<Issued, PkiError> {
        let validity = Validity::new(now, SERVER_LIFETIME_MS, self.not_after)?;
        let mut params = params("fedlora coordinator", &validity)?;
        params.subject_alt_names = hosts.iter().map(|host| alternative_name(host)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, key, &validity)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        validity: &Validity,
    ) -> Result<Issued, PkiError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(PkiError::Sign)?;
        Ok(Issued { pem: certificate.pem(), not_after: validity.end() })
    }
}

/// A fresh key.
pub(crate) fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(PkiError::Sign)
}

/// What all certificates have in common.
fn params(name: &str, validity: &Validity) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = validity.not_before.to_datetime();
    params.not_after = validity.not_after.to_datetime();
    // Two certificates for one key must not share a number. The first bit stays 0: the number is positive.
    let mut serial: [u8; 16] = random_bytes()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn alternative_name(host: &str) -> Result<SanType, PkiError> {
    let bad = || PkiError::BadHost { host: host.into() };
    match ServerName::try_from(host).map_err(|_| bad())? {
        ServerName::IpAddress(address) => Ok(SanType::IpAddress(address.into())),
        _ => host.try_into().map(SanType::DnsName).map_err(|_| bad()),
    }
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => PkiError::NoAuthority { path: path.into() },
        _ => PkiError::Io { path: path.into(), source },
    })
}
