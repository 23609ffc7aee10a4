//! Listing clients, and taking their rights away.

use fedlora_adapter::ClientId;
use fedlora_proto::operator::{ClientRequest, ClientSummary};

use super::{
    IdentityError, Registry,
    directory::Change,
    records::{ClientRecord, Standing},
};
use crate::Timestamp;

impl Registry {
    /// Everybody who was ever enrolled, by number.
    ///
    /// # Errors
    /// None today; a register that is read from elsewhere may have some.
    pub fn clients(&self) -> Result<Vec<ClientSummary>, IdentityError> {
        let directory = self.directory();
        Ok(directory.clients().map(|(client, record)| self.summary(client, record)).collect())
    }

    /// One client, by number or by name.
    ///
    /// # Errors
    /// No such client.
    pub fn client(&self, request: &ClientRequest) -> Result<ClientSummary, IdentityError> {
        let directory = self.directory();
        let number = request.client_id.map(ClientId);
        let found = match number {
            Some(client) => directory.client(client).map(|record| (client, record)),
            None => directory.by_name(&request.name),
        };
        let (client, record) = found.ok_or_else(|| IdentityError::UnknownClient {
            wanted: number.map_or_else(|| request.name.chars().take(64).collect(), |client| client.0.to_string()),
        })?;
        Ok(self.summary(client, record))
    }

    /// Takes a client's right to connect away, for good, and tells everybody who listens to [`Self::revocations`]. Its
    /// certificates and access tokens are worthless from here on; its name and number can be enrolled again, together
    /// and with a new key.
    ///
    /// # Errors
    /// No such client, or a register that cannot be written.
    pub fn revoke(&self, client: ClientId, now: Timestamp) -> Result<ClientSummary, IdentityError> {
        let summary = self.set_standing(client, |record| {
            record.standing = Standing::Revoked;
            record.revoked.get_or_insert(now);
            record.credentials.iter_mut().for_each(|credential| credential.revoked = true);
            Ok(())
        })?;
        self.announce_revocation(client);
        tracing::info!(client = client.0, name = summary.name, "client-revoked");
        Ok(summary)
    }

    /// Marks a client as drained: it may connect, and is invited to no further round.
    ///
    /// # Errors
    /// No such client, a revoked one, or a register that cannot be written.
    pub fn set_drained(&self, client: ClientId) -> Result<ClientSummary, IdentityError> {
        self.set_standing(client, |record| match record.standing {
            Standing::Revoked => Err(IdentityError::Revoked { name: record.name.clone() }),
            Standing::Enrolled | Standing::Drained => {
                record.standing = Standing::Drained;
                Ok(())
            }
        })
    }

    fn set_standing(
        &self,
        client: ClientId,
        set: impl FnOnce(&mut ClientRecord) -> Result<(), IdentityError>,
    ) -> Result<ClientSummary, IdentityError> {
        self.change(|directory| {
            let unknown = || IdentityError::UnknownClient { wanted: client.0.to_string() };
            let mut record = directory.client(client).ok_or_else(unknown)?.clone();
            set(&mut record)?;
            let summary = self.summary(client, &record);
            Ok((vec![Change::Client(client, record)], summary))
        })
    }

    fn summary(&self, client: ClientId, record: &ClientRecord) -> ClientSummary {
        record.summary(client, self.last_seen(client, record))
    }
}
