//! Making and taking away enrolment tokens.

use fedlora_adapter::{ClientId, Digest};
use fedlora_proto::operator::{CreateTokenRequest, TokenSummary};

use super::{
    IdentityError, Registry, Role,
    directory::{Change, Directory},
    names::{check_institution, check_name},
    pki::MAX_CLIENT_LIFETIME_MS,
    records::{Fate, TokenRecord, token_id},
    secret::{Purpose, Secret},
};
use crate::Timestamp;

impl Registry {
    /// Makes a token, and its secret text, which nothing shows again.
    ///
    /// The client's number is decided here: the one asked for, or the next free one, clients from 0 on. A name that is
    /// enrolled, or has an open token, is taken. A revoked client's name comes with its number, and nobody else gets
    /// either.
    ///
    /// # Errors
    /// A name, role or lifetime out of range, a name or number that is taken, an institution with as many clients as it
    /// may have, or a register that cannot be written.
    pub fn create_token(
        &self,
        request: CreateTokenRequest,
        now: Timestamp,
    ) -> Result<(TokenSummary, String), IdentityError> {
        let unknown = || IdentityError::UnknownRole { role: request.role.chars().take(64).collect() };
        let role = Role::find(&request.role).ok_or_else(unknown)?;
        check_name(&request.name)?;
        let institution = if request.institution.is_empty() { request.name.clone() } else { request.institution };
        check_institution(&institution)?;
        if request.ttl_ms == 0 || request.ttl_ms > MAX_CLIENT_LIFETIME_MS {
            return Err(IdentityError::BadLifetime { ttl_ms: request.ttl_ms, max_ms: MAX_CLIENT_LIFETIME_MS });
        }
        let secret = Secret::random(Purpose::Enrolment)?;
        let summary = self.change(|directory| {
            let client = directory.number_for(&request.name, role, request.client_id.map(ClientId), now)?;
            if role == Role::Client {
                self.check_votes(directory, &institution, 1, now)?;
            }
            let (name, expires) = (request.name, now + request.ttl_ms);
            let record = TokenRecord { name, institution, role, client, created: now, expires, fate: Fate::Open };
            let summary = record.summary(secret.hash(), now);
            Ok((vec![Change::Token(secret.hash(), record)], summary))
        })?;
        Ok((summary, secret.to_text()))
    }

    /// All tokens without their secrets, oldest first.
    ///
    /// # Errors
    /// None today; a register that is read from elsewhere may have some.
    pub fn tokens(&self, now: Timestamp) -> Result<Vec<TokenSummary>, IdentityError> {
        let mut tokens: Vec<_> = self.directory().tokens().map(|(hash, token)| token.summary(hash, now)).collect();
        tokens.sort_by(|a, b| (a.created_ms, &a.token_id).cmp(&(b.created_ms, &b.token_id)));
        Ok(tokens)
    }

    /// Makes a token useless. One that was used, has expired or was revoked stays as it is.
    ///
    /// # Errors
    /// No such token, or a register that cannot be written.
    pub fn revoke_token(&self, wanted: &str, now: Timestamp) -> Result<TokenSummary, IdentityError> {
        self.change(|directory| {
            let unknown = || IdentityError::UnknownTokenId { token_id: wanted.chars().take(64).collect() };
            let (hash, token) = find(directory, wanted).ok_or_else(unknown)?;
            if !token.is_open(now) {
                return Ok((Vec::new(), token.summary(hash, now)));
            }
            let revoked = TokenRecord { fate: Fate::Revoked(now), ..token.clone() };
            let summary = revoked.summary(hash, now);
            Ok((vec![Change::Token(hash, revoked)], summary))
        })
    }

    /// Refuses `more` clients of an institution that would then have too many.
    pub(super) fn check_votes(
        &self,
        directory: &Directory,
        institution: &str,
        more: usize,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let limit = self.settings().max_clients_per_institution;
        if directory.votes_of(institution, now) + more > limit {
            return Err(IdentityError::TooManyClients { institution: institution.into(), limit });
        }
        Ok(())
    }
}

fn find<'a>(directory: &'a Directory, wanted: &str) -> Option<(Digest, &'a TokenRecord)> {
    directory.tokens().find(|&(hash, _)| token_id(hash) == wanted)
}
