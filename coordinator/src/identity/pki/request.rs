//! A site's request for a certificate: its key, and the proof that it has it.

use rcgen::{PublicKeyData as _, SubjectPublicKeyInfo};
use x509_parser::{certification_request::X509CertificationRequest, pem::Pem, prelude::FromDer as _};

use super::{super::Fingerprint, PkiError};

/// Largest request that is looked at, bytes; those of our clients have about 400.
const MAX_BYTES: usize = 8 * 1024;

/// Keys that are small, quick to check and without weak choices.
const ALGORITHMS: [&rcgen::SignatureAlgorithm; 3] =
    [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];

/// A request whose signature proves that the sender has the key. What it asks for besides, such as names, does not
/// matter: the authority decides that.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    key: SubjectPublicKeyInfo,
    fingerprint: Fingerprint,
}

impl CertificateRequest {
    /// Reads a request in PEM and checks its signature.
    ///
    /// # Errors
    /// Too large, no PKCS#10, a key of another kind than ECDSA over P-256 or P-384 or Ed25519, or a signature that is
    /// not of that key.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let bad = |fault| PkiError::BadRequest { fault };
        if text.len() > MAX_BYTES {
            return Err(bad("is larger than 8 KiB"));
        }
        let (pem, _) = Pem::read(std::io::Cursor::new(text)).map_err(|_| bad("is not PEM"))?;
        if !matches!(pem.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err(bad("has another PEM label than CERTIFICATE REQUEST"));
        }
        let parsed = X509CertificationRequest::from_der(&pem.contents);
        let (rest, request) = parsed.map_err(|_| bad("is not in the form of PKCS#10"))?;
        if !rest.is_empty() {
            return Err(bad("has bytes after its end"));
        }
        let raw = request.certification_request_info.subject_pki.raw;
        let accepted = "has a key of another kind than ECDSA over P-256 or P-384 or Ed25519";
        let key = SubjectPublicKeyInfo::from_der(raw).map_err(|_| bad(accepted))?;
        if !ALGORITHMS.contains(&key.algorithm()) {
            return Err(bad(accepted));
        }
        request.verify_signature().map_err(|_| bad("is not signed with the key that it names"))?;
        Ok(Self { fingerprint: Fingerprint::of(raw), key })
    }

    /// The key's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SigningKey};

    use super::*;

    fn request(key: &impl SigningKey) -> String {
        CertificateParams::default().serialize_request(key).expect("a request").pem().expect("PEM")
    }

    /// Says that it is one key and signs with another.
    struct Impostor {
        claimed: KeyPair,
        own: KeyPair,
    }

    impl rcgen::PublicKeyData for Impostor {
        fn der_bytes(&self) -> &[u8] {
            self.claimed.der_bytes()
        }

        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            self.claimed.algorithm()
        }
    }

    impl SigningKey for Impostor {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            self.own.sign(message)
        }
    }

    fn fault(text: &str) -> &'static str {
        match CertificateRequest::from_pem(text) {
            Err(PkiError::BadRequest { fault }) => fault,
            other => panic!("expected a refusal, found {other:?}"),
        }
    }

    #[test]
    fn the_three_kinds_of_keys_are_accepted_with_their_fingerprints() {
        for algorithm in ALGORITHMS {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let read = CertificateRequest::from_pem(&request(&key)).expect("a request");
            assert_eq!(read.fingerprint(), Fingerprint::of(&key.subject_public_key_info()));
        }
    }

    #[test]
    fn who_has_not_the_key_gets_no_certificate_for_it() {
        let [claimed, own] = [(); 2].map(|()| KeyPair::generate().expect("a key"));
        assert!(fault(&request(&Impostor { claimed, own })).contains("not signed with the key"));
    }

    #[test]
    fn every_damaged_byte_of_what_is_signed_is_noticed_and_no_other_changes_the_key() {
        let key = KeyPair::generate().expect("a key");
        let der = CertificateParams::default().serialize_request(&key).expect("a request").der().to_vec();
        let armour = |der: &[u8]| {
            let base64 = base64(der);
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{base64}\n-----END CERTIFICATE REQUEST-----\n")
        };
        let (_, parsed) = X509CertificationRequest::from_der(&der).expect("a request");
        let raw = parsed.certification_request_info.raw;
        let start = der.windows(raw.len()).position(|window| window == raw).expect("a part of the whole");
        let signed = start..start + raw.len();
        let whole = CertificateRequest::from_pem(&armour(&der)).expect("a request").fingerprint();
        for place in 0..der.len() {
            let mut damaged = der.clone();
            damaged[place] ^= 1;
            // The frame around what is signed can be written in more than one way.
            match CertificateRequest::from_pem(&armour(&damaged)) {
                Ok(read) => assert!(read.fingerprint() == whole && !signed.contains(&place), "byte {place}"),
                Err(error) => assert!(matches!(error, PkiError::BadRequest { .. }), "byte {place}: {error}"),
            }
            assert!(CertificateRequest::from_pem(&armour(&der[..place])).is_err(), "cut at {place}");
        }
        assert!(fault(&armour(&[&der[..], &[0]].concat())).contains("after its end"));
    }

    #[test]
    fn other_things_are_named_for_what_they_are() {
        assert!(fault("").contains("not PEM"));
        assert!(fault(&"x".repeat(MAX_BYTES + 1)).contains("larger"));
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::default().self_signed(&key).expect("a certificate").pem();
        assert!(fault(&certificate).contains("label"));
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |chunk: &[u8]| {
            let word = (0..3).fold(0_u32, |word, at| word << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
            let value = |at: usize| char::from(DIGITS[(word >> (18 - 6 * at)) as usize & 63]);
            let digit = |at: usize| if at <= chunk.len() { value(at) } else { '=' };
            [digit(0), digit(1), digit(2), digit(3)]
        };
        let digits: Vec<char> = bytes.chunks(3).flat_map(group).collect();
        digits.chunks(64).map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
    }
}
