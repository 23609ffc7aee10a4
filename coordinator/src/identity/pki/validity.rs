//! From when to when a certificate is valid.

use x509_parser::time::ASN1Time;

use super::PkiError;
use crate::Timestamp;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Life of an authority, ms: ten years.
pub const AUTHORITY_LIFETIME_MS: u64 = 3650 * DAY_MS;

/// Life of the coordinator's own certificate, ms: a year.
pub const SERVER_LIFETIME_MS: u64 = 365 * DAY_MS;

/// Longest life of a client's certificate, ms: thirty days.
pub const MAX_CLIENT_LIFETIME_MS: u64 = 30 * DAY_MS;

/// How far a clock may be behind the coordinator's, ms, and still see a new certificate as valid.
const BACKDATED_MS: u64 = 5 * 60 * 1000;

/// The two ends of a certificate's life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    pub(super) not_before: ASN1Time,
    pub(super) not_after: ASN1Time,
}

impl Validity {
    /// From a little before `now` on, for `lifetime_ms` from `now` on, and never beyond the signer's own end.
    pub(super) fn new(now: Timestamp, lifetime_ms: u64, at_most: Timestamp) -> Result<Self, PkiError> {
        let begin = Timestamp(now.0.saturating_sub(BACKDATED_MS));
        let end = (now + lifetime_ms).min(at_most);
        Ok(Self { not_before: asn1(begin)?, not_after: asn1(end)? })
    }

    /// The end, in whole seconds.
    pub(super) fn end(&self) -> Timestamp {
        timestamp(self.not_after)
    }
}

/// A time in the form of certificates: whole seconds.
fn asn1(time: Timestamp) -> Result<ASN1Time, PkiError> {
    let seconds = time.0 / 1000;
    let signed = i64::try_from(seconds).ok();
    signed.and_then(|signed| ASN1Time::from_timestamp(signed).ok()).ok_or(PkiError::BadTime { seconds })
}

/// A certificate's time; before 1970 counts as 1970.
pub(super) fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_with_its_signer_at_the_latest() {
        let (now, signer) = (Timestamp(DAY_MS * 20_000 + 999), Timestamp(DAY_MS * 20_010));
        let short = Validity::new(now, DAY_MS, signer).expect("a validity");
        assert_eq!(short.end(), Timestamp(DAY_MS * 20_001));
        assert_eq!(timestamp(short.not_before), Timestamp(DAY_MS * 20_000 - BACKDATED_MS));
        assert_eq!(Validity::new(now, DAY_MS * 30, signer).expect("a validity").end(), signer);
    }

    #[test]
    fn a_time_beyond_all_calendars_is_an_error() {
        assert!(Validity::new(Timestamp(u64::MAX), 1, Timestamp(u64::MAX)).is_err());
    }
}
