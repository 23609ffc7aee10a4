//! All records in memory, with the indices that calls look things up by.

use std::collections::{BTreeMap, BTreeSet};

use fedlora_adapter::{ClientId, Digest};

use super::{
    Fingerprint, IdentityError, Role,
    records::{ClientRecord, Standing, TokenRecord},
};
use crate::Timestamp;

/// Operators and auditors are numbered from here on, so that those of clients stay small and without gaps.
const FIRST_PERSON: u64 = 1 << 32;

/// A record in its new form.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Client(ClientId, ClientRecord),
    Token(Digest, TokenRecord),
}

/// Clients and tokens. It changes by [`Change`]s alone, which are durable before they are applied.
#[derive(Debug, Default)]
pub(super) struct Directory {
    clients: BTreeMap<ClientId, ClientRecord>,
    tokens: BTreeMap<Digest, TokenRecord>,
    by_key: BTreeMap<Fingerprint, ClientId>,
    by_access: BTreeMap<Digest, ClientId>,
}

impl Directory {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Token(hash, record) => {
                self.tokens.insert(hash, record);
            }
            Change::Client(client, record) => {
                for credential in &record.credentials {
                    self.by_key.insert(credential.fingerprint, client);
                    self.by_access.insert(credential.access, client);
                }
                let kept: BTreeSet<_> = record.credentials.iter().map(|credential| credential.fingerprint).collect();
                let tokens: BTreeSet<_> = record.credentials.iter().map(|credential| credential.access).collect();
                for old in self.clients.insert(client, record).into_iter().flat_map(|old| old.credentials) {
                    if !kept.contains(&old.fingerprint) {
                        self.by_key.remove(&old.fingerprint);
                    }
                    if !tokens.contains(&old.access) {
                        self.by_access.remove(&old.access);
                    }
                }
            }
        }
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = (ClientId, &ClientRecord)> {
        self.clients.iter().map(|(&client, record)| (client, record))
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = (Digest, &TokenRecord)> {
        self.tokens.iter().map(|(&hash, record)| (hash, record))
    }

    pub(super) fn client(&self, client: ClientId) -> Option<&ClientRecord> {
        self.clients.get(&client)
    }

    pub(super) fn token(&self, hash: Digest) -> Option<&TokenRecord> {
        self.tokens.get(&hash)
    }

    pub(super) fn by_key(&self, fingerprint: Fingerprint) -> Option<(ClientId, &ClientRecord)> {
        let client = *self.by_key.get(&fingerprint)?;
        self.client(client).map(|record| (client, record))
    }

    pub(super) fn by_access(&self, hash: Digest) -> Option<(ClientId, &ClientRecord)> {
        let client = *self.by_access.get(&hash)?;
        self.client(client).map(|record| (client, record))
    }

    pub(super) fn by_name(&self, name: &str) -> Option<(ClientId, &ClientRecord)> {
        self.clients().find(|(_, record)| record.name == name)
    }

    /// The number for a new client of this name: the one asked for, the one that the name had, or the next free one.
    ///
    /// A name and a number belong together for good. Both are free for a new enrolment only after the client was
    /// revoked, and then only together: a site that lost its key comes back as the client that it was.
    pub(super) fn number_for(
        &self,
        name: &str,
        role: Role,
        asked: Option<ClientId>,
        now: Timestamp,
    ) -> Result<ClientId, IdentityError> {
        let open = || self.tokens.values().filter(|token| token.is_open(now));
        let name_taken = |client| IdentityError::NameTaken { name: name.into(), client };
        if let Some(token) = open().find(|token| token.name == name) {
            return Err(name_taken(token.client));
        }
        if let Some((client, record)) = self.by_name(name) {
            let again = record.standing == Standing::Revoked && record.role == role;
            return (again && asked.is_none_or(|asked| asked == client)).then_some(client).ok_or(name_taken(client));
        }
        let reserved: BTreeMap<ClientId, &str> = open().map(|token| (token.client, token.name.as_str())).collect();
        let owner = |number: &ClientId| {
            let enrolled = self.clients.get(number).map(|record| record.name.as_str());
            enrolled.or_else(|| reserved.get(number).copied())
        };
        if let Some(number) = asked {
            let taken = |name: &str| IdentityError::NumberTaken { client: number, name: name.into() };
            return owner(&number).map_or(Ok(number), |name| Err(taken(name)));
        }
        let first = if role == Role::Client { 0 } else { FIRST_PERSON };
        // There are fewer records than numbers, so the search ends.
        Ok((first..=u64::MAX).map(ClientId).find(|number| owner(number).is_none()).unwrap_or(ClientId(u64::MAX)))
    }

    /// Clients of an institution that have a vote, or may get one with an open token.
    pub(super) fn votes_of(&self, institution: &str, now: Timestamp) -> usize {
        let enrolled = self.clients.values().filter(|record| {
            record.role == Role::Client && record.standing != Standing::Revoked && record.institution == institution
        });
        let coming = self
            .tokens
            .values()
            .filter(|token| token.role == Role::Client && token.is_open(now) && token.institution == institution);
        enrolled.count() + coming.count()
    }

    /// Whether `client` may have a certificate for a key: nobody else has it, and it was never revoked.
    pub(super) fn check_key(&self, fingerprint: Fingerprint, client: ClientId) -> Result<(), IdentityError> {
        let free = self.by_key(fingerprint).is_none_or(|(owner, record)| {
            let mut same_key = record.credentials.iter().filter(|credential| credential.fingerprint == fingerprint);
            owner == client && !same_key.any(|credential| credential.revoked)
        });
        free.then_some(()).ok_or(IdentityError::KeyTaken { fingerprint })
    }
}
