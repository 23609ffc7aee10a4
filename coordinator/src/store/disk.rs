//! Tables in one redb file.
//!
//! Every commit is a two-phase one: the new state is on the disk before anything points to it, so that what a client
//! sends cannot make a torn write look whole.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, Durability, ReadableDatabase, TableDefinition};

use super::{Pair, RoundStore, StoreError, Table, Write};
use crate::blobs::{Files, SystemFiles};

/// Memory for pages of the database: the working set is one round's records.
const CACHE_BYTES: usize = 32 << 20;

/// Tables in a file that is locked as long as the store exists.
pub struct DiskStore {
    path: PathBuf,
    open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send>,
    /// None after a failure: redb answers nothing more once a write went wrong, so the file is opened again.
    database: Option<Database>,
}

impl DiskStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// Another process has it open; it is no such file; it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            create(path)?;
        }
        let file = path.to_owned();
        Self::with(path, move || Builder::new().set_cache_size(CACHE_BYTES).create(&file))
    }

    /// A store on any medium that redb can be given.
    pub(crate) fn with(
        path: &Path,
        open: impl Fn() -> Result<Database, DatabaseError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let mut store = Self { path: path.to_owned(), open: Box::new(open), database: None };
        store.database()?;
        // Reading a table that nobody ever wrote to is an error of redb's: make them all.
        store.attempt(create_tables)?;
        Ok(store)
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        let opened = match self.database.take() {
            Some(database) => database,
            None => (self.open)().map_err(|error| failure(&self.path, error))?,
        };
        Ok(self.database.insert(opened))
    }

    /// Does something with the database, and closes it if that goes wrong.
    fn attempt<T>(&mut self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let result = work(self.database()?);
        result.map_err(|error| {
            self.database = None;
            failure(&self.path, error)
        })
    }
}

/// Makes an empty database under another name and renames it: a crash while it is made must not leave a file that is
/// neither empty nor a database, which nothing could ever open again.
fn create(path: &Path) -> Result<(), StoreError> {
    let mut beside = path.to_owned();
    beside.as_mut_os_string().push(".new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::io(&beside)(error)),
        _ => {}
    }
    let database = Builder::new().create(&beside).map_err(|error| failure(&beside, error))?;
    create_tables(&database).map_err(|error| failure(&beside, error))?;
    drop(database);
    SystemFiles.sync(&beside).map_err(StoreError::io(&beside))?;
    SystemFiles.rename(&beside, path).map_err(StoreError::io(path))?;
    path.parent().map_or(Ok(()), |folder| SystemFiles.sync_folder(folder).map_err(StoreError::io(folder)))
}

fn failure(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database { path: path.to_owned(), source: Box::new(error.into()) }
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let reader = database.begin_read()?;
    if Table::ALL.iter().all(|table| reader.open_table(definition(*table)).is_ok()) {
        return Ok(());
    }
    write(database, |transaction| {
        for table in Table::ALL {
            transaction.open_table(definition(table))?;
        }
        Ok(())
    })
}

fn write(
    database: &Database,
    work: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    work(&transaction)?;
    Ok(transaction.commit()?)
}

impl RoundStore for DiskStore {
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.attempt(|database| {
            write(database, |transaction| {
                for Write { table, key, value } in writes {
                    transaction.open_table(definition(*table))?.insert(key.as_slice(), value.as_slice())?;
                }
                Ok(())
            })
        })
    }

    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.attempt(|database| {
            let table = database.begin_read()?.open_table(definition(table))?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn scan(
        &mut self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        youngest_first: bool,
    ) -> Result<Vec<Pair>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.attempt(|database| {
            let table = database.begin_read()?.open_table(definition(table))?;
            let mut range = table.range(from..to)?;
            let mut found = Vec::new();
            while found.len() < limit {
                let Some(entry) = (if youngest_first { range.next_back() } else { range.next() }) else { break };
                let (key, value) = entry?;
                found.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(found)
        })
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("path", &self.path).finish_non_exhaustive()
    }
}
