//! What a certificate says about time.

use rustls::pki_types::{CertificateDer, pem::PemObject};

/// When a certificate is valid, ms since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From here on.
    pub not_before_ms: u64,
    /// Up to here.
    pub not_after_ms: u64,
}

impl Lifetime {
    /// When to ask for a younger one: two thirds of its life are over, which leaves a third of it to try again.
    #[must_use]
    pub fn renew_at_ms(&self) -> u64 {
        self.not_before_ms + self.not_after_ms.saturating_sub(self.not_before_ms) / 3 * 2
    }
}

/// The lifetime of the first certificate of a PEM text; none if there is none.
#[must_use]
pub fn lifetime(pem: &str) -> Option<Lifetime> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let ms = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0) * 1000;
    let validity = certificate.validity();
    Some(Lifetime { not_before_ms: ms(validity.not_before), not_after_ms: ms(validity.not_after) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 31);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let lifetime = lifetime(&pem).expect("a certificate");
        // 2020-01-01 is day 18262 of the epoch.
        assert_eq!(lifetime.not_before_ms, 18_262 * 86_400_000);
        assert_eq!(lifetime.renew_at_ms(), lifetime.not_before_ms + 20 * 86_400_000);
        assert_eq!(super::lifetime("nothing"), None);
    }
}
