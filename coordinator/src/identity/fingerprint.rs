//! A public key in 32 bytes.

use std::fmt;

use serde::{Deserialize, Serialize, de::Error as _};
use sha2::{Digest as _, Sha256};

/// SHA-256 of a `SubjectPublicKeyInfo` in DER: what `openssl pkey -pubin -outform der | sha256sum` prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a public key in DER.
    #[must_use]
    pub fn of(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // 64 hexadecimal digits are read the same way whatever was hashed.
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(&text).map(|hash| Self(*hash.as_bytes())).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_sha_256_in_hexadecimal_and_comes_back_from_json() {
        // The well-known digest of no bytes at all.
        let empty = Fingerprint::of(&[]);
        assert_eq!(empty.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let text = serde_json::to_string(&empty).expect("JSON");
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).expect("a fingerprint"), empty);
    }
}
