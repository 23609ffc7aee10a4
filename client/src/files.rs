//! Files that are either whole or absent, whatever happens while they are written.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file that cannot be written; the source says why.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}; make sure that there is space and that this user may write there")]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// A failure to write `path`.
    #[must_use]
    pub fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Replaces a file by one with these bytes. Missing directories are made.
///
/// When this returns, the file survives a power failure; before that, readers see the old one or none. Two writers of
/// one path at the same time are not kept apart.
///
/// # Errors
/// Whatever the file system refuses. The old file is then still there, and no partial one beside it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, Care { secret: false, durable: true })
}

/// As [`write_atomically`], for what can be made again: the file survives the end of this process, but after a power
/// failure it may be gone or hold anything, so that readers must check what they find. Waits for no disk.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_for_now(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, Care { secret: false, durable: false })
}

/// As [`write_atomically`], readable by this user alone from its first byte on.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, Care { secret: true, durable: true })
}

/// What a file is worth.
#[derive(Clone, Copy)]
struct Care {
    secret: bool,
    durable: bool,
}

fn replace(path: &Path, bytes: &[u8], care: Care) -> Result<(), FileError> {
    let failed = |source| FileError::new(path, source);
    let directory = parent(path);
    create_directory(directory).map_err(failed)?;
    let partial = partial(path);
    let written = write_beside(&partial, bytes, care).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The first error is the one to report; there may be no partial file at all.
        let _ = fs::remove_file(&partial);
    }
    let named = || if care.durable { sync_directory(directory) } else { Ok(()) };
    written.and_then(|()| named()).map_err(failed)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in the same directory, because a rename is atomic within one file system only.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn write_beside(partial: &Path, bytes: &[u8], care: Care) -> io::Result<()> {
    // A file left behind by a crash keeps its permissions, so it must go before a secret comes.
    if care.secret && partial.exists() {
        fs::remove_file(partial)?;
    }
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if care.secret {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(partial)?;
    file.write_all(bytes)?;
    // Otherwise the new name could reach the disk before the content does.
    if care.durable { file.sync_all() } else { Ok(()) }
}

/// Like `create_dir_all`, but the new directories survive a power failure too.
fn create_directory(directory: &Path) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("the directory exists");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn missing_directories_are_made_and_nothing_stays_beside_the_file() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("a/b/record.json");
        write_atomically(&path, b"old").expect("writable");
        write_atomically(&path, b"new").expect("writable");
        assert_eq!(fs::read(&path).expect("written"), b"new");
        write_for_now(&path, b"newest").expect("writable");
        assert_eq!(fs::read(&path).expect("written"), b"newest");
        assert_eq!(names(&place.path().join("a/b")), ["record.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("key.pem");
        fs::write(place.path().join("key.pem.partial"), "left behind").expect("writable");
        write_secret(&path, b"secret").expect("writable");
        assert_eq!(fs::metadata(&path).expect("written").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failure_leaves_no_partial_file_and_names_the_path() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("occupied");
        fs::create_dir_all(path.join("by-a-directory")).expect("writable");
        let error = write_atomically(&path, b"bytes").expect_err("a directory cannot be replaced by a file");
        assert!(error.to_string().contains("occupied") && error.source().is_some(), "{error}");
        assert_eq!(names(place.path()), ["occupied"]);
    }

    #[test]
    fn a_directory_below_a_file_is_an_error_and_not_a_panic() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let file = place.path().join("file");
        write_atomically(&file, b"").expect("writable");
        write_atomically(&file.join("below"), b"").expect_err("a file is no directory");
        assert_eq!(names(place.path()), ["file"]);
    }
}
