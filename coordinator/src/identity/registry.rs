//! The register of everybody who may connect.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use fedlora_adapter::ClientId;
use tokio::sync::broadcast;

use super::{
    IdentityError, Peer, RegistrySettings,
    database::Database,
    directory::{Change, Directory},
    pki::{Authority, PeerCertificate, PkiPaths},
    records::{ClientRecord, Credential, Standing},
    secret::{Purpose, Secret},
};
use crate::Timestamp;

/// Revocations that a slow listener may fall behind before it looks everything up again.
const BACKLOG: usize = 64;

/// Clients, operators, auditors and tokens of one coordinator, in `identity.redb` of its state directory.
///
/// Looking somebody up reads memory alone. A change is durable before it counts; changes wait for each other and for
/// the disk, so an async caller hands them to a blocking thread.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    directory: RwLock<Directory>,
    /// Held from the decision about a change until it counts, while others go on reading.
    writer: Mutex<()>,
    /// When clients were last seen, where that is not stored yet.
    seen: Mutex<BTreeMap<ClientId, Timestamp>>,
    authority: Authority,
    settings: RegistrySettings,
    revocations: broadcast::Sender<ClientId>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Registry {
    /// Opens the register of a state directory with default settings; the authority is the one in its folder `pki`.
    ///
    /// # Errors
    /// There is no authority yet, a file cannot be read, or another process has the register open.
    pub fn open(state: &Path) -> Result<Self, IdentityError> {
        Self::open_with(state, RegistrySettings::default())
    }

    /// Opens the register of a state directory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(state: &Path, settings: RegistrySettings) -> Result<Self, IdentityError> {
        let authority = Authority::load(&PkiPaths::of_state(state))?;
        let database = Database::open(state)?;
        let directory = RwLock::new(database.load()?);
        let (revocations, _) = broadcast::channel(BACKLOG);
        let (writer, seen) = Default::default();
        let inner = Inner { database, directory, writer, seen, authority, settings, revocations };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The certificate of the authority in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.inner.authority.pem()
    }

    /// Every client that is revoked from now on. A listener that falls behind is told so, and asks
    /// [`Self::is_revoked`].
    #[must_use]
    pub fn revocations(&self) -> broadcast::Receiver<ClientId> {
        self.inner.revocations.subscribe()
    }

    /// Whether a client was revoked.
    #[must_use]
    pub fn is_revoked(&self, client: ClientId) -> bool {
        self.directory().client(client).is_some_and(|record| record.standing == Standing::Revoked)
    }

    /// Who has a certificate that TLS has verified.
    ///
    /// # Errors
    /// Nobody, or its time is over, or it was revoked.
    pub fn holder_of(&self, certificate: &PeerCertificate, now: Timestamp) -> Result<Peer, IdentityError> {
        let fingerprint = certificate.fingerprint;
        let directory = self.directory();
        let unknown = || IdentityError::UnknownCertificate { fingerprint };
        let (client, record) = directory.by_key(fingerprint).ok_or_else(unknown)?;
        check_standing(record, |credential| credential.fingerprint == fingerprint)?;
        if now >= certificate.not_after {
            return Err(IdentityError::ExpiredCertificate { name: record.name.clone() });
        }
        Ok(record.peer(client))
    }

    /// Who has an access token.
    ///
    /// # Errors
    /// Nobody, or its time is over, or it was revoked.
    pub fn bearer_of(&self, access_token: &str, now: Timestamp) -> Result<Peer, IdentityError> {
        let unknown = || IdentityError::UnknownToken;
        let access = Secret::parse(Purpose::Access, access_token).ok_or_else(unknown)?.hash();
        let directory = self.directory();
        let (client, record) = directory.by_access(access).ok_or_else(unknown)?;
        let credential = check_standing(record, |credential| credential.access == access)?;
        if now >= credential.not_after {
            return Err(IdentityError::ExpiredAccess { name: record.name.clone() });
        }
        Ok(record.peer(client))
    }

    /// Notes that a client is there. Cheap, and durable only with the next change or [`Self::flush`].
    pub fn touch(&self, client: ClientId, now: Timestamp) {
        self.seen().insert(client, now);
    }

    /// Makes durable when clients were last seen.
    ///
    /// # Errors
    /// The register cannot be written.
    pub fn flush(&self) -> Result<(), IdentityError> {
        self.inner.flush()
    }

    pub(super) fn settings(&self) -> &RegistrySettings {
        &self.inner.settings
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.inner.authority
    }

    pub(super) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.inner.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn announce_revocation(&self, client: ClientId) {
        // Nobody listening is nobody to tell.
        let _ = self.inner.revocations.send(client);
    }

    /// When a client was last seen, stored or not.
    pub(super) fn last_seen(&self, client: ClientId, record: &ClientRecord) -> Timestamp {
        self.seen().get(&client).copied().unwrap_or_default().max(record.last_seen)
    }

    /// Decides about a change, makes it durable, applies it.
    pub(super) fn change<T>(
        &self,
        decide: impl FnOnce(&Directory) -> Result<(Vec<Change>, T), IdentityError>,
    ) -> Result<T, IdentityError> {
        self.inner.change(decide)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<ClientId, Timestamp>> {
        lock(&self.inner.seen)
    }
}

impl Inner {
    fn change<T>(
        &self,
        decide: impl FnOnce(&Directory) -> Result<(Vec<Change>, T), IdentityError>,
    ) -> Result<T, IdentityError> {
        let _writer = lock(&self.writer);
        let (mut changes, answer) = decide(&self.directory.read().unwrap_or_else(PoisonError::into_inner))?;
        for change in &mut changes {
            if let Change::Client(client, record) = change {
                let seen = lock(&self.seen).get(client).copied().unwrap_or_default();
                record.last_seen = record.last_seen.max(seen);
            }
        }
        self.database.commit(&changes)?;
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            directory.apply(change);
        }
        lock(&self.seen).retain(|&client, seen| directory.client(client).is_some_and(|c| *seen > c.last_seen));
        Ok(answer)
    }

    /// Stores when clients were last seen: [`Self::change`] writes that into every record that it stores.
    fn flush(&self) -> Result<(), IdentityError> {
        self.change(|directory| {
            let seen = lock(&self.seen);
            let record = |&client| Some(Change::Client(client, directory.client(client)?.clone()));
            Ok((seen.keys().filter_map(record).collect(), ()))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "last-seen-not-stored");
        }
    }
}

/// A panic elsewhere leaves nothing half-done behind these locks: records are replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The credential that a call came with, unless it or its client was revoked.
fn check_standing(record: &ClientRecord, is_it: impl Fn(&Credential) -> bool) -> Result<&Credential, IdentityError> {
    let valid = |credential: &&Credential| is_it(credential) && !credential.revoked;
    let revoked = || IdentityError::Revoked { name: record.name.clone() };
    let credential = record.credentials.iter().rev().find(valid).ok_or_else(revoked)?;
    if record.standing == Standing::Revoked { Err(revoked()) } else { Ok(credential) }
}
