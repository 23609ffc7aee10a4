//! What is stored of a client and of a token.

use fedlora_adapter::{ClientId, Digest};
use fedlora_proto::operator::{ClientSummary, TokenSummary};
use serde::{Deserialize, Serialize};

use super::{Fingerprint, Peer, Role};
use crate::Timestamp;

/// A client's standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    Enrolled,
    Drained,
    Revoked,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Drained => "drained",
            Self::Revoked => "revoked",
        }
    }
}

/// One certificate and the access token that was issued with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Credential {
    /// The certificate's key.
    pub(super) fingerprint: Fingerprint,
    /// Hash of the access token.
    pub(super) access: Digest,
    /// When both end.
    pub(super) not_after: Timestamp,
    /// Whether it was taken away. A key that was never comes back.
    pub(super) revoked: bool,
}

/// An enrolled client, operator or auditor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClientRecord {
    pub(super) name: String,
    pub(super) institution: String,
    pub(super) role: Role,
    pub(super) standing: Standing,
    pub(super) enrolled: Timestamp,
    /// When its right to connect was taken away.
    pub(super) revoked: Option<Timestamp>,
    pub(super) last_seen: Timestamp,
    /// Oldest first. More than one is valid while a renewal is under way: calls that began with the old one go on.
    pub(super) credentials: Vec<Credential>,
}

impl ClientRecord {
    /// The client as it appears on calls.
    pub(super) fn peer(&self, client: ClientId) -> Peer {
        Peer { client, name: self.name.clone(), institution: self.institution.clone(), role: self.role }
    }

    /// The client as operators see it. Whether it is connected, and its rounds, are for others to fill in.
    pub(super) fn summary(&self, client: ClientId, last_seen: Timestamp) -> ClientSummary {
        let youngest = self.credentials.last();
        ClientSummary {
            client_id: client.0,
            name: self.name.clone(),
            institution: self.institution.clone(),
            role: self.role.as_str().into(),
            state: self.standing.as_str().into(),
            enrolled_ms: self.enrolled.0,
            last_seen_ms: last_seen.0,
            certificate_not_after_ms: youngest.map_or(0, |credential| credential.not_after.0),
            fingerprint: youngest.map(|credential| credential.fingerprint.to_string()).unwrap_or_default(),
            rounds_accepted: 0,
        }
    }
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fate {
    Open,
    Used(Timestamp),
    Revoked(Timestamp),
}

/// A one-time token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    pub(super) name: String,
    pub(super) institution: String,
    pub(super) role: Role,
    /// The number that its client will have; nobody else gets it while the token is open.
    pub(super) client: ClientId,
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) fate: Fate,
}

impl TokenRecord {
    /// Whether it can still be used.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        self.fate == Fate::Open && now < self.expires
    }

    /// The token as operators see it.
    pub(super) fn summary(&self, hash: Digest, now: Timestamp) -> TokenSummary {
        let state = match self.fate {
            Fate::Used(_) => "used",
            Fate::Revoked(_) => "revoked",
            Fate::Open if now < self.expires => "open",
            Fate::Open => "expired",
        };
        TokenSummary {
            token_id: token_id(hash),
            name: self.name.clone(),
            institution: self.institution.clone(),
            role: self.role.as_str().into(),
            created_ms: self.created.0,
            expires_ms: self.expires.0,
            state: state.into(),
        }
    }
}

/// A token's public identifier: the first digits of its hash.
pub(super) fn token_id(hash: Digest) -> String {
    hash.to_string()
}
