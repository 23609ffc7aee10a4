//! Files that survive a power failure, and the lock.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::LedgerError;

/// A name in the same directory.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Takes the ledger for this process. A file of its own, since locks keep others from reading on some systems.
pub(super) fn lock(ledger: &Path) -> Result<File, LedgerError> {
    if !parent(ledger).is_dir() {
        return Err(LedgerError::Missing { path: ledger.to_owned() });
    }
    let path = beside(ledger, ".lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(LedgerError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Locked { path: ledger.to_owned() }),
        Err(TryLockError::Error(error)) => Err(LedgerError::io(&path)(error)),
    }
}

/// Opens the ledger to add lines at its end.
pub(super) fn open(ledger: &Path) -> Result<File, LedgerError> {
    File::options().append(true).open(ledger).map_err(LedgerError::io(ledger))
}

/// Replaces a file; it is whole or as it was before, and durable when this returns.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = beside(path, ".partial");
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    // Otherwise the new name could reach the disk before the content does.
    file.sync_all()?;
    drop(file);
    fs::rename(&partial, path)?;
    sync_directory(parent(path))
}

/// Like `create_dir_all`, but the new directories survive a power failure too.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = parent(directory);
    create_directory(above)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        outcome => outcome.and_then(|()| sync_directory(above)),
    }
}

/// Makes names in a directory durable. Windows cannot open directories and needs no such step.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(windows) { Ok(()) } else { File::open(directory)?.sync_all() }
}
