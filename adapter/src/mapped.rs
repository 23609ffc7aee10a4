//! Values in a file that the system brings into memory where they are looked at, and may take out again at any time.
//!
//! For files that nobody else can change or shorten, such as a coordinator's own: a page that is no longer there, or
//! cannot be read, ends the process.

use std::{fs::File, io, path::Path, sync::Arc};

use mmap_io::{MemoryMappedFile, MmapAdvice, MmapMode};

use crate::AdapterError;

/// A file of values.
#[derive(Debug)]
pub(crate) struct MappedFile(MemoryMappedFile);

impl MappedFile {
    /// Maps all of a file.
    ///
    /// # Errors
    /// The system's refusal, with the path.
    pub(crate) fn new(file: &File, path: &Path) -> Result<Self, AdapterError> {
        let io = |source| AdapterError::Io { path: path.to_owned(), source };
        let file = file.try_clone().map_err(io)?;
        let map = MemoryMappedFile::from_file(file, MmapMode::ReadOnly, path);
        Ok(Self(map.map_err(|error| io(io::Error::other(error)))?))
    }

    /// Values of the file, if they lie there as this machine holds them in memory.
    pub(crate) fn values(&self, start_bytes: u64, length: usize) -> Option<&[f32]> {
        let bytes = self.0.as_slice_bytes(start_bytes, 4 * length as u64).ok()?;
        bytemuck::try_cast_slice(bytes).ok().filter(|_| cfg!(target_endian = "little"))
    }

    /// Lets go of the memory of a part of the file; what is read again is found as before.
    pub(crate) fn release(&self, start_bytes: u64, bytes: u64) {
        // A hint: a system that does not take it keeps the pages for as long as it likes.
        let _ = self.0.advise(start_bytes, bytes, MmapAdvice::DontNeed);
    }

    /// Lets go of the memory of the whole file.
    pub(crate) fn release_all(&self) {
        self.release(0, self.0.len());
    }
}

/// Some values of a mapped file. Clones are views of the same ones.
#[derive(Debug, Clone)]
pub(crate) struct MappedValues {
    file: Arc<MappedFile>,
    start_bytes: u64,
    length: usize,
}

impl MappedValues {
    /// A view, if there are such values in the file and this machine can read them where they are.
    pub(crate) fn new(file: &Arc<MappedFile>, start_bytes: u64, length: usize) -> Option<Self> {
        file.values(start_bytes, length)?;
        Some(Self { file: Arc::clone(file), start_bytes, length })
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // There since this view was made: a mapping never gets shorter.
        self.file.values(self.start_bytes, self.length).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn release(&self) {
        self.file.release(self.start_bytes, 4 * self.length as u64);
    }
}
