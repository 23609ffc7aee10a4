//! Files that only their owner may read, and that are there as a whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::PkiError;

/// Read and write for the owner alone.
pub(crate) const PRIVATE: u32 = 0o600;

/// Writes a file that must not exist yet, readable by its owner alone, and makes it durable.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let written = create(path).and_then(|file| fill(file, path, bytes));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists { path: path.into() },
        _ => PkiError::Io { path: path.into(), source },
    })
}

/// Replaces a file: written beside, made durable, renamed.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let beside = beside(path);
    let written = remove_left_over(&beside)
        .and_then(|()| create(&beside))
        .and_then(|file| fill(file, &beside, bytes))
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| sync_folder(path));
    written.map_err(|source| PkiError::Io { path: path.into(), source })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// A replacement that was cut off left its file behind.
fn remove_left_over(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)
}

fn fill(mut file: File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_folder(path)
}

/// A new name is durable once its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_owner_reads_and_nothing_is_overwritten_by_accident() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.pem");
        write_new(&path, b"one").expect("written");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, PRIVATE);
        assert!(matches!(write_new(&path, b"two"), Err(PkiError::Exists { .. })));
        assert_eq!(fs::read(&path).expect("a file"), b"one");
    }

    #[test]
    fn a_replacement_that_was_cut_off_does_not_stop_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.pem");
        fs::write(beside(&path), b"half").expect("written");
        replace(&path, b"whole").expect("replaced");
        assert_eq!(fs::read(&path).expect("a file"), b"whole");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, PRIVATE);
        assert!(!beside(&path).exists());
    }
}
