//! Random secrets in a form that people can copy.

use std::fmt;

use fedlora_adapter::Digest;

use super::{IdentityError, pki};

/// Crockford's digits: none of them is taken for another.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Bytes that tell a typing error from a secret that nobody knows.
const CHECK_BYTES: usize = 4;

/// What a secret is for. It decides the text's prefix and the stored hash, so that one never passes for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Enrolling, once.
    Enrolment,
    /// Naming the client on every call.
    Access,
}

impl Purpose {
    fn prefix(self) -> &'static str {
        match self {
            Self::Enrolment => "fl1_",
            Self::Access => "fla1_",
        }
    }

    fn context(self) -> &'static str {
        match self {
            Self::Enrolment => "fedlora 2026 hash of an enrolment token",
            Self::Access => "fedlora 2026 hash of an access token",
        }
    }
}

/// 256 random bits.
pub(super) struct Secret {
    purpose: Purpose,
    bytes: [u8; 32],
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?}, …)", self.purpose)
    }
}

impl Secret {
    /// A fresh one from the operating system.
    pub(super) fn random(purpose: Purpose) -> Result<Self, IdentityError> {
        Ok(Self { purpose, bytes: pki::random_bytes()? })
    }

    /// The text: prefix, secret and checksum.
    pub(super) fn to_text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().chain(self.checksum()).collect();
        format!("{}{}", self.purpose.prefix(), encode(&bytes))
    }

    /// The secret of a text, with spaces around it or not, in small letters or capitals.
    pub(super) fn parse(purpose: Purpose, text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let bytes = decode(text.strip_prefix(purpose.prefix())?)?;
        let (secret, checksum) = bytes.split_at_checked(32)?;
        let secret = Self { purpose, bytes: secret.try_into().ok()? };
        (checksum == secret.checksum()).then_some(secret)
    }

    /// What is stored. A plain fast hash suffices: 256 random bits cannot be guessed at any speed.
    pub(super) fn hash(&self) -> Digest {
        Digest::from_bytes(blake3::derive_key(self.purpose.context(), &self.bytes))
    }

    fn checksum(&self) -> [u8; CHECK_BYTES] {
        let hash = blake3::derive_key("fedlora 2026 checksum of a secret's text", &self.bytes);
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

/// Base 32, most significant bits first, the last digit filled up with zeros.
fn encode(bytes: &[u8]) -> String {
    let digits = (bytes.len() * 8).div_ceil(5);
    let bit = |index: usize| bytes.get(index / 8).map_or(0, |byte| (byte >> (7 - index % 8)) & 1);
    let digit = |place: usize| (0..5).fold(0, |value, offset| value << 1 | bit(place * 5 + offset));
    (0..digits).map(|place| char::from(DIGITS[usize::from(digit(place))])).collect()
}

/// The bytes of a text in base 32, if it could have come from [`encode`].
fn decode(text: &str) -> Option<Vec<u8>> {
    // Longer than anything we write: not worth a look.
    let values: Option<Vec<u8>> = (text.len() <= 128).then(|| {
        text.bytes().map(|c| DIGITS.iter().position(|&digit| digit == c).map(|value| value as u8)).collect()
    })?;
    let values = values?;
    let bit = |index: usize| (values[index / 5] >> (4 - index % 5)) & 1;
    let bytes: Vec<u8> =
        (0..values.len() * 5 / 8).map(|place| (0..8).fold(0, |byte, at| byte << 1 | bit(place * 8 + at))).collect();
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(fill: u8) -> Secret {
        Secret { purpose: Purpose::Enrolment, bytes: [fill; 32] }
    }

    #[test]
    fn two_secrets_differ_and_neither_shows_in_debug_output() {
        let [first, second] = [(); 2].map(|()| Secret::random(Purpose::Access).expect("random bytes"));
        assert_ne!(first.bytes, second.bytes);
        assert_eq!(format!("{first:?}"), "Secret(Access, …)");
    }

    #[test]
    fn a_secret_of_one_purpose_is_none_of_the_other() {
        assert!(Secret::parse(Purpose::Access, &secret(7).to_text()).is_none());
        let same_bytes = Secret { purpose: Purpose::Access, bytes: [7; 32] };
        assert_ne!(secret(7).hash(), same_bytes.hash());
    }

    #[test]
    fn a_typing_error_is_noticed_at_any_place() {
        let text = secret(0x5a).to_text();
        for place in 0..text.len() {
            let mut typed = text.clone().into_bytes();
            typed[place] = if typed[place] == b'q' { b'r' } else { b'q' };
            let typed = String::from_utf8(typed).expect("ASCII");
            assert!(Secret::parse(Purpose::Enrolment, &typed).is_none(), "{typed}");
            assert!(Secret::parse(Purpose::Enrolment, &text[..place]).is_none());
        }
        assert!(Secret::parse(Purpose::Enrolment, &format!("{text}0")).is_none());
    }

    #[test]
    fn spaces_and_capitals_of_a_copied_text_do_not_matter() {
        let text = format!(" {}\n", secret(0xc3).to_text().to_uppercase());
        assert_eq!(Secret::parse(Purpose::Enrolment, &text).expect("a secret").bytes, [0xc3; 32]);
    }

    proptest! {
        #[test]
        fn every_secret_comes_back_from_its_text(bytes: [u8; 32]) {
            let text = Secret { purpose: Purpose::Enrolment, bytes }.to_text();
            prop_assert_eq!(Secret::parse(Purpose::Enrolment, &text).map(|secret| secret.bytes), Some(bytes));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = Secret::parse(Purpose::Enrolment, &format!("fl1_{text}"));
        }
    }
}
