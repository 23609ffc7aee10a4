//! An update as it lies on disk: checked once, then read in blocks, so that a server of N updates holds none of them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek},
    path::{Path, PathBuf},
};

use crate::{
    AdapterError, AdapterKind, AdapterSpec, AdapterUpdate, Directive, ModuleName, Side,
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
        let update = Self { file, path: path.to_owned(), kind: spec.kind, tensors };
        update.check().map_err(inside)?;
        Ok(update)
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
}
