//! Trading a token, or an older certificate, for a certificate.

use fedlora_adapter::{ClientId, Digest};
use fedlora_proto::federation::EnrolResponse;

use super::{
    IdentityError, Peer, Registry, Role,
    directory::{Change, Directory},
    pki::{CertificateRequest, Issued},
    records::{ClientRecord, Credential, Fate, Standing, TokenRecord, token_id},
    secret::{Purpose, Secret},
};
use crate::Timestamp;

/// Valid certificates that a client may have at a time. Two are usual while a renewal is under way.
const MAX_CERTIFICATES: usize = 8;

impl Registry {
    /// Trades a token, once, for a certificate over the key of a request, and an access token.
    ///
    /// A request that is refused leaves the token as it was.
    ///
    /// # Errors
    /// A token that is unknown, used, expired or revoked; a bad request; a key that is in use or was revoked; a name that
    /// was taken meanwhile; a register that cannot be written.
    pub fn enrol(&self, token: &str, csr_pem: &str, now: Timestamp) -> Result<EnrolResponse, IdentityError> {
        let secret = Secret::parse(Purpose::Enrolment, token).ok_or(IdentityError::UnknownToken)?;
        // A useless token is refused before any signature is checked: strangers cost next to nothing.
        open_token(&self.directory(), secret.hash(), now)?;
        let request = CertificateRequest::from_pem(csr_pem)?;
        self.change(|directory| {
            let token = open_token(directory, secret.hash(), now)?;
            let mut record = self.new_record(directory, token, now)?;
            let answer = self.issue(directory, token.client, &mut record, &request, now)?;
            let used = TokenRecord { fate: Fate::Used(now), ..token.clone() };
            let changes = vec![Change::Token(secret.hash(), used), Change::Client(token.client, record)];
            Ok((changes, answer))
        })
    }

    /// Gives an enrolled client a younger certificate and access token. Older ones stay valid until they end, so that
    /// nothing that is under way is cut off.
    ///
    /// # Errors
    /// A client that is unknown or revoked or has too many valid certificates; a bad request; a key that another client
    /// has or that was revoked; a register that cannot be written.
    pub fn renew(&self, peer: &Peer, csr_pem: &str, now: Timestamp) -> Result<EnrolResponse, IdentityError> {
        let request = CertificateRequest::from_pem(csr_pem)?;
        self.change(|directory| {
            let unknown = || IdentityError::UnknownClient { wanted: peer.name.clone() };
            let mut record = directory.client(peer.client).ok_or_else(unknown)?.clone();
            if record.standing == Standing::Revoked {
                return Err(IdentityError::Revoked { name: record.name });
            }
            let answer = self.issue(directory, peer.client, &mut record, &request, now)?;
            Ok((vec![Change::Client(peer.client, record)], answer))
        })
    }

    /// The client that a token is for, before it has a certificate.
    fn new_record(
        &self,
        directory: &Directory,
        token: &TokenRecord,
        now: Timestamp,
    ) -> Result<ClientRecord, IdentityError> {
        let before = directory.client(token.client);
        if before.is_some_and(|record| record.standing != Standing::Revoked) {
            return Err(IdentityError::NameTaken { name: token.name.clone(), client: token.client });
        }
        if token.role == Role::Client {
            // The open token counts already.
            self.check_votes(directory, &token.institution, 0, now)?;
        }
        Ok(ClientRecord {
            name: token.name.clone(),
            institution: token.institution.clone(),
            role: token.role,
            standing: Standing::Enrolled,
            enrolled: now,
            revoked: None,
            last_seen: before.map_or(Timestamp(0), |record| record.last_seen),
            // Revoked ones stay known, so that their keys never come back.
            credentials: before.map(|record| record.credentials.clone()).unwrap_or_default(),
        })
    }

    fn issue(
        &self,
        directory: &Directory,
        client: ClientId,
        record: &mut ClientRecord,
        request: &CertificateRequest,
        now: Timestamp,
    ) -> Result<EnrolResponse, IdentityError> {
        directory.check_key(request.fingerprint(), client)?;
        record.credentials.retain(|credential| now < credential.not_after);
        if record.credentials.iter().filter(|credential| !credential.revoked).count() >= MAX_CERTIFICATES {
            return Err(IdentityError::TooManyCertificates { name: record.name.clone(), limit: MAX_CERTIFICATES });
        }
        let access = Secret::random(Purpose::Access)?;
        let lifetime_ms = self.settings().certificate_lifetime_ms;
        let issued = self.authority().issue_client(request, client, &record.name, now, lifetime_ms)?;
        let (fingerprint, not_after) = (request.fingerprint(), issued.not_after);
        record.credentials.push(Credential { fingerprint, access: access.hash(), not_after, revoked: false });
        Ok(self.answer(client, &record.name, issued, &access))
    }

    fn answer(&self, client: ClientId, name: &str, issued: Issued, access: &Secret) -> EnrolResponse {
        EnrolResponse {
            certificate_pem: issued.pem,
            ca_pem: self.ca_pem().into(),
            client_id: client.0,
            name: name.into(),
            not_after_ms: issued.not_after.0,
            access_token: access.to_text(),
        }
    }
}

fn open_token(directory: &Directory, hash: Digest, now: Timestamp) -> Result<&TokenRecord, IdentityError> {
    let token = directory.token(hash).ok_or(IdentityError::UnknownToken)?;
    let token_id = token_id(hash);
    match token.fate {
        Fate::Used(_) => Err(IdentityError::UsedToken { token_id }),
        Fate::Revoked(_) => Err(IdentityError::RevokedToken { token_id }),
        Fate::Open if now >= token.expires => Err(IdentityError::ExpiredToken { token_id }),
        Fate::Open => Ok(token),
    }
}
