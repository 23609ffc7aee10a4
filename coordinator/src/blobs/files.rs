//! The few things that blobs need of a file system, so that tests can take its power away.

use std::{
    fmt::Debug,
    fs, io,
    path::{Path, PathBuf},
};

/// A file system. Nothing that it does lasts before it is synchronised.
pub(crate) trait Files: Debug + Send + Sync {
    /// Makes a folder and those above it.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes or replaces a file of these bytes.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes an empty file or replaces one by it, open for reading and writing.
    fn begin(&self, path: &Path) -> io::Result<fs::File>;
    /// Makes a file's content durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder's names durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name; replaces a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Size of a file in bytes.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Files in a folder.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The machine's file system.
#[derive(Debug)]
pub(crate) struct SystemFiles;

impl Files for SystemFiles {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn begin(&self, path: &Path) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        // Opened for writing: some systems refuse to flush a handle that can only read.
        fs::OpenOptions::new().write(true).open(path)?.sync_all()
    }

    #[cfg(unix)]
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    /// Elsewhere folders cannot be opened; the file system's own journal has to do.
    #[cfg(not(unix))]
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        fs::metadata(path).map(|metadata| metadata.len())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }
}
