//! A whole adapter whose values stay in its file: whoever holds it holds names and shapes, and the system brings in what
//! is looked at.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    names,
    whole::{expected, layout},
};
use crate::{
    Adapter, AdapterError, AdapterSpec, Digest, FileTensor, LoraFactors, ModuleName, Side, Tensor, TensorSource,
    UpdateFile, UpdateSource,
    hashing::DigestWriter,
    mapped::{MappedFile, MappedValues},
};

/// Values read at a time.
const BLOCK: usize = 16 * 1024;

/// An adapter whose file was written here: every value of it was checked.
#[derive(Debug, Clone)]
pub struct WrittenAdapter {
    pub(super) spec: Arc<AdapterSpec>,
    pub(super) content: Digest,
    pub(super) adapter: Digest,
    pub(super) bytes: u64,
}

impl WrittenAdapter {
    /// Digest of the file.
    #[must_use]
    pub fn content(&self) -> Digest {
        self.content
    }

    /// Digest of the adapter, [`Adapter::digest`].
    #[must_use]
    pub fn adapter(&self) -> Digest {
        self.adapter
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The adapter, its values in the file at `path`: the one that was written, which nobody may change or shorten from now
    /// on. No value is looked at.
    ///
    /// # Errors
    /// A file that is shorter; I/O errors, with the path.
    pub fn open(&self, path: &Path) -> Result<Adapter, AdapterError> {
        let file = File::open(path).map_err(in_file(path))?;
        let found = file.metadata().map_err(in_file(path))?.len();
        if found != self.bytes {
            return Err(in_file(path)(io::ErrorKind::UnexpectedEof.into()));
        }
        let places = layout(&self.spec)?.1.into_iter().map(|place| (place.name, (place.shape, place.start_bytes)));
        mapped(&self.spec, &file, path, &places.collect())
    }
}

/// The adapter in a file, once it is clear that it is the one of this digest ([`Adapter::digest`]). Its values stay in
/// the file, which nobody may change or shorten from now on: a page that is no longer there ends the process.
///
/// The first look reads in blocks, so that a file or a disk that is damaged by then is an error.
///
/// # Errors
/// As [`UpdateFile::open`]; an adapter of another digest.
pub fn map_adapter(path: &Path, spec: &Arc<AdapterSpec>, digest: Digest) -> Result<Adapter, AdapterError> {
    spec.validate()?;
    let update = UpdateFile::open_as(path, spec.kind, &expected(spec))?;
    let inside = |source| AdapterError::InFile { path: path.to_owned(), source: Box::new(source) };
    let found = digest_of(&update, spec).map_err(inside)?;
    if found != digest {
        return Err(AdapterError::WrongContent { expected: digest, found });
    }
    let (file, places) = update.places();
    mapped(spec, file, path, places)
}

/// [`Adapter::digest`] of the values in a file, all of which must be finite.
fn digest_of(update: &UpdateFile, spec: &AdapterSpec) -> Result<Digest, AdapterError> {
    let mut hasher = DigestWriter::new(u64::MAX);
    hasher.write(spec.digest().as_bytes());
    let factors = spec.modules.keys().flat_map(|module| [Side::A, Side::B].map(|side| (module, side)));
    let factors = factors.map(|(module, side)| (names::factor(spec.kind, module, side), update.factor(module, side)));
    let extras = spec.head.keys().map(|name| (names::extra(name), update.extra(name)));
    let mut block = vec![0.0; BLOCK];
    for (name, tensor) in factors.chain(extras) {
        let Some(tensor) = tensor else { return Err(AdapterError::MissingTensor { name }) };
        for offset in (0..tensor.len()).step_by(BLOCK) {
            let values = tensor.block(offset, &mut block)?;
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(AdapterError::NotFinite { name, index: offset + index });
            }
            hasher.write(bytemuck::cast_slice(values));
        }
    }
    Ok(hasher.finish())
}

/// An adapter of values at checked places of a file; they are copied where this machine cannot read them there.
fn mapped(
    spec: &Arc<AdapterSpec>,
    file: &File,
    path: &Path,
    places: &BTreeMap<String, (Vec<usize>, u64)>,
) -> Result<Adapter, AdapterError> {
    let map = Arc::new(MappedFile::new(file, path)?);
    let path: PathBuf = path.to_owned();
    let tensor = |name: String| {
        let (shape, start_bytes) = places.get(&name).ok_or(AdapterError::MissingTensor { name })?;
        if let Some(values) = MappedValues::new(&map, *start_bytes, shape.iter().product()) {
            return Ok(Tensor::mapped(shape.clone(), values));
        }
        let tensor = FileTensor { file, path: &path, shape, start_bytes: *start_bytes };
        Tensor::new(shape.clone(), TensorSource::File(tensor).load()?.into_owned())
    };
    let factors = |name: &ModuleName| {
        let [a, b] = [Side::A, Side::B].map(|side| tensor(names::factor(spec.kind, name, side)));
        Ok((name.clone(), LoraFactors { a: a?, b: b? }))
    };
    let modules = spec.modules.keys().map(factors).collect::<Result<_, AdapterError>>()?;
    let head = spec.head.keys().map(|name| Ok((name.clone(), tensor(names::extra(name))?)));
    Ok(Adapter::of_checked(Arc::clone(spec), modules, head.collect::<Result<_, AdapterError>>()?))
}

pub(super) fn in_file(path: &Path) -> impl FnOnce(io::Error) -> AdapterError + '_ {
    move |source| AdapterError::Io { path: path.to_owned(), source }
}
