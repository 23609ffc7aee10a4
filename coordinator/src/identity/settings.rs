//! What an operator may set about identities.

use super::pki::MAX_CLIENT_LIFETIME_MS;

/// Settings of a [`Registry`](super::Registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Clients that one institution may have at a time: each has a vote, so this caps an institution's votes.
    pub max_clients_per_institution: usize,
    /// How long a certificate is valid, ms; at most 30 days, whatever is asked for.
    pub certificate_lifetime_ms: u64,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { max_clients_per_institution: 64, certificate_lifetime_ms: MAX_CLIENT_LIFETIME_MS }
    }
}
