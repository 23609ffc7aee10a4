//! The register's file.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use fedlora_adapter::{ClientId, Digest};
use redb::{
    DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction, backends::FileBackend,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    IdentityError,
    directory::{Change, Directory},
};

/// Raised by a change that older software cannot read.
const VERSION: u64 = 1;

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const CLIENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("clients");
const TOKENS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("tokens");

/// Records as JSON under the client's number or the token's hash.
#[derive(Debug)]
pub(super) struct Database {
    file: redb::Database,
    path: PathBuf,
}

impl Database {
    /// Opens the file of a state directory, or makes it, readable by its owner alone.
    pub(super) fn open(state: &Path) -> Result<Self, IdentityError> {
        let path = state.join("identity.redb");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let opened = opened.map_err(|source| IdentityError::Io { path: path.clone(), source })?;
        let backend = FileBackend::new(opened);
        let file = backend.and_then(|backend| redb::Database::builder().create_with_backend(backend));
        let file = file.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => IdentityError::InUse { path: path.clone() },
            error => IdentityError::Storage { path: path.clone(), source: Box::new(error.into()) },
        })?;
        let database = Self { file, path };
        database.check_version()?;
        Ok(database)
    }

    /// All records.
    pub(super) fn load(&self) -> Result<Directory, IdentityError> {
        let mut directory = Directory::default();
        let transaction = self.file.begin_read().map_err(self.failed())?;
        let clients = transaction.open_table(CLIENTS).map_err(self.failed())?;
        for entry in clients.iter().map_err(self.failed())? {
            let (client, record) = entry.map_err(self.failed())?;
            directory.apply(Change::Client(ClientId(client.value()), self.read(record.value())?));
        }
        let tokens = transaction.open_table(TOKENS).map_err(self.failed())?;
        for entry in tokens.iter().map_err(self.failed())? {
            let (hash, record) = entry.map_err(self.failed())?;
            directory.apply(Change::Token(Digest::from_bytes(*hash.value()), self.read(record.value())?));
        }
        Ok(directory)
    }

    /// Makes changes durable: all of them or none.
    pub(super) fn commit(&self, changes: &[Change]) -> Result<(), IdentityError> {
        if changes.is_empty() {
            return Ok(());
        }
        let transaction = self.begin()?;
        for change in changes {
            self.put(&transaction, change)?;
        }
        transaction.commit().map_err(self.failed())
    }

    fn put(&self, transaction: &WriteTransaction, change: &Change) -> Result<(), IdentityError> {
        match change {
            Change::Client(client, record) => {
                let mut table = transaction.open_table(CLIENTS).map_err(self.failed())?;
                table.insert(client.0, self.bytes(record)?.as_slice()).map_err(self.failed())?;
            }
            Change::Token(hash, record) => {
                let mut table = transaction.open_table(TOKENS).map_err(self.failed())?;
                table.insert(hash.as_bytes(), self.bytes(record)?.as_slice()).map_err(self.failed())?;
            }
        }
        Ok(())
    }

    /// Makes the tables of a new file; refuses one of another version.
    fn check_version(&self) -> Result<(), IdentityError> {
        let transaction = self.begin()?;
        let found = {
            let mut about = transaction.open_table(ABOUT).map_err(self.failed())?;
            let found = about.get("version").map_err(self.failed())?.map(|version| version.value());
            if found.is_none() {
                about.insert("version", VERSION).map_err(self.failed())?;
            }
            transaction.open_table(CLIENTS).map_err(self.failed())?;
            transaction.open_table(TOKENS).map_err(self.failed())?;
            found.unwrap_or(VERSION)
        };
        if found != VERSION {
            return Err(IdentityError::Version { path: self.path.clone(), expected: VERSION, found });
        }
        transaction.commit().map_err(self.failed())
    }

    fn begin(&self) -> Result<WriteTransaction, IdentityError> {
        let mut transaction = self.file.begin_write().map_err(self.failed())?;
        // Names in the file come from outside: with two phases a crash cannot make a torn page look like a whole one.
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    fn bytes(&self, record: &impl Serialize) -> Result<Vec<u8>, IdentityError> {
        serde_json::to_vec(record).map_err(|source| IdentityError::Record { path: self.path.clone(), source })
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, IdentityError> {
        serde_json::from_slice(bytes).map_err(|source| IdentityError::Record { path: self.path.clone(), source })
    }

    fn failed<E: Into<redb::Error>>(&self) -> impl Fn(E) -> IdentityError {
        |error| IdentityError::Storage { path: self.path.clone(), source: Box::new(error.into()) }
    }
}
