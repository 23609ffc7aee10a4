//! An update as it lies on disk: checked once, then read in blocks or mapped, so that a server of N updates holds none
//! of them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use mmap_io::{MemoryMappedFile, MmapAdvice, MmapMode};

use crate::{
    AdapterError, AdapterKind, AdapterSpec, AdapterUpdate, Directive, ModuleName, Side, TensorRef,
    codec::{self, names},
    source::{FileTensor, TensorSource, UpdateSource},
};

/// Values read at a time while a file is checked.
const BLOCK: usize = 16 * 1024;

/// A validated update file.
#[derive(Debug)]
pub struct UpdateFile {
    file: File,
    path: PathBuf,
    kind: AdapterKind,
    tensors: BTreeMap<String, (Vec<usize>, u64)>,
    map: Option<MemoryMappedFile>,
}

impl UpdateFile {
    /// Opens an update file and checks header and values without holding them.
    ///
    /// # Errors
    /// As [`codec::decode`], wrapped with the path; I/O errors.
    pub fn open(path: &Path, spec: &AdapterSpec, directive: Directive) -> Result<Self, AdapterError> {
        let expected = AdapterUpdate::expected(spec, directive);
        let io = |source| AdapterError::Io { path: path.to_owned(), source };
        let inside = |source| AdapterError::InFile { path: path.to_owned(), source: Box::new(source) };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let limit = codec::header_limit(&expected) as u64 + 8;
        let mut head = Vec::new();
        file.by_ref().take(limit).read_to_end(&mut head).map_err(io)?;
        file.rewind().map_err(io)?;
        let tensors = codec::layout(&head, length, &expected).map_err(inside)?;
        let update = Self { file, path: path.to_owned(), kind: spec.kind, tensors, map: None };
        update.check().map_err(inside)?;
        Ok(update)
    }

    /// Maps the file, so that its values are read where the system caches them instead of being copied: twice as fast.
    ///
    /// For files that nobody else can change or shorten, such as a coordinator's own: a page that is no longer there
    /// ends the process. What was read of them counts as this process's memory until [`UpdateSource::release`].
    ///
    /// # Errors
    /// The system's refusal, with the path.
    pub fn mapped(self) -> Result<Self, AdapterError> {
        let io = |source| AdapterError::Io { path: self.path.clone(), source };
        let file = self.file.try_clone().map_err(io)?;
        let map = MemoryMappedFile::from_file(file, MmapMode::ReadOnly, &self.path);
        let map = map.map_err(|error| io(io::Error::other(error)))?;
        Ok(Self { map: Some(map), ..self })
    }

    /// Every value must be finite; shapes are known to be right.
    fn check(&self) -> Result<(), AdapterError> {
        let mut block = vec![0.0; BLOCK];
        for name in self.tensors.keys() {
            let Some(tensor) = self.tensor(name) else { continue };
            for offset in (0..tensor.len()).step_by(BLOCK) {
                let values = tensor.block(offset, &mut block)?;
                if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                    return Err(AdapterError::NotFinite { name: name.clone(), index: offset + index });
                }
            }
        }
        Ok(())
    }

    fn tensor(&self, name: &str) -> Option<TensorSource<'_>> {
        let (shape, start_bytes) = self.tensors.get(name)?;
        if let Some(values) = self.mapped_values(*start_bytes, shape.iter().product()) {
            return Some(TensorSource::Memory(TensorRef { shape, values }));
        }
        Some(TensorSource::File(FileTensor { file: &self.file, path: &self.path, shape, start_bytes: *start_bytes }))
    }

    /// Values inside the mapping, if there is one and they lie there as this machine holds them in memory.
    fn mapped_values(&self, start_bytes: u64, length: usize) -> Option<&[f32]> {
        let bytes = self.map.as_ref()?.as_slice_bytes(start_bytes, 4 * length as u64).ok()?;
        bytemuck::try_cast_slice(bytes).ok().filter(|_| cfg!(target_endian = "little"))
    }
}

impl UpdateSource for UpdateFile {
    fn factor(&self, module: &ModuleName, side: Side) -> Option<TensorSource<'_>> {
        self.tensor(&names::factor(self.kind, module, side))
    }

    fn extra(&self, name: &str) -> Option<TensorSource<'_>> {
        self.tensor(&names::extra(name))
    }

    fn release(&self) {
        if let Some(map) = &self.map {
            // A hint: a system that does not take it keeps the pages for as long as it likes.
            let _ = map.advise(0, map.len(), MmapAdvice::DontNeed);
        }
    }
}
