//! An update as it lies on disk: checked once, then read in blocks or mapped, so that a server of N updates holds none
//! of them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek},
    path::{Path, PathBuf},
};

use crate::{
    AdapterError, AdapterKind, AdapterSpec, AdapterUpdate, Directive, ModuleName, Side, TensorRef,
    codec::{self, names},
    mapped::MappedFile,
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
    map: Option<MappedFile>,
}

impl UpdateFile {
    /// Opens an update file and checks header and values without holding them.
    ///
    /// # Errors
    /// As [`codec::decode`], wrapped with the path; I/O errors.
    pub fn open(path: &Path, spec: &AdapterSpec, directive: Directive) -> Result<Self, AdapterError> {
        let update = Self::open_checked(path, spec, directive)?;
        update.check().map_err(|source| AdapterError::InFile { path: path.to_owned(), source: Box::new(source) })?;
        Ok(update)
    }

    /// Opens an update file whose values were checked before, when it came: the header is checked, no value is read.
    ///
    /// # Errors
    /// As [`UpdateFile::open`], but for values that are not finite.
    pub fn open_checked(path: &Path, spec: &AdapterSpec, directive: Directive) -> Result<Self, AdapterError> {
        Self::open_as(path, spec.kind, &AdapterUpdate::expected(spec, directive))
    }

    /// The same for a file that may hold other tensors than an update does.
    pub(crate) fn open_as(path: &Path, kind: AdapterKind, expected: &codec::Expected) -> Result<Self, AdapterError> {
        let io = |source| AdapterError::Io { path: path.to_owned(), source };
        let inside = |source| AdapterError::InFile { path: path.to_owned(), source: Box::new(source) };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let limit = codec::header_limit(expected) as u64 + 8;
        let mut head = Vec::new();
        file.by_ref().take(limit).read_to_end(&mut head).map_err(io)?;
        file.rewind().map_err(io)?;
        let tensors = codec::layout(&head, length, expected).map_err(inside)?;
        Ok(Self { file, path: path.to_owned(), kind, tensors, map: None })
    }

    /// Maps the file, so that its values are read where the system caches them instead of being copied: twice as fast.
    ///
    /// For files that nobody else can change or shorten, such as a coordinator's own: a page that is no longer there
    /// ends the process. What was read of them counts as this process's memory until [`UpdateSource::release`].
    ///
    /// # Errors
    /// The system's refusal, with the path.
    pub fn mapped(self) -> Result<Self, AdapterError> {
        let map = MappedFile::new(&self.file, &self.path)?;
        Ok(Self { map: Some(map), ..self })
    }

    /// Every value must be finite; shapes are known to be right.
    ///
    /// # Errors
    /// The first value that is not, in name order; I/O errors.
    pub fn check(&self) -> Result<(), AdapterError> {
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

    /// The file, and where its tensors lie in it.
    pub(crate) fn places(&self) -> (&File, &BTreeMap<String, (Vec<usize>, u64)>) {
        (&self.file, &self.tensors)
    }

    fn tensor(&self, name: &str) -> Option<TensorSource<'_>> {
        let (shape, start_bytes) = self.tensors.get(name)?;
        let mapped = self.map.as_ref().and_then(|map| map.values(*start_bytes, shape.iter().product()));
        if let Some(values) = mapped {
            return Some(TensorSource::Memory(TensorRef { shape, values }));
        }
        Some(TensorSource::File(FileTensor { file: &self.file, path: &self.path, shape, start_bytes: *start_bytes }))
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
            map.release_all();
        }
    }
}
