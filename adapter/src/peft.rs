//! Hugging Face PEFT's adapter folders: `adapter_config.json` beside `adapter_model.safetensors`.

mod config;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use safetensors::{Dtype, SafeTensors};

use crate::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, LoraFactors, ModuleName, Side, Tensor, VeraProjections,
    codec::{self, names},
};

pub use config::PeftOptions;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Writes an adapter as a folder that `peft` loads as is.
///
/// Each file is written beside its final name and renamed, so that a full disk leaves no half-written adapter.
///
/// # Errors
/// I/O errors, with the path.
pub fn write_peft(directory: &Path, adapter: &Adapter, options: &PeftOptions) -> Result<(), AdapterError> {
    let spec = adapter.spec();
    let mut tensors = BTreeMap::new();
    for (module, factors) in adapter.modules() {
        for side in [Side::A, Side::B] {
            tensors.insert(names::factor(spec.kind, module, side), factors.side(side).as_ref());
        }
    }
    let projections = (spec.kind == AdapterKind::Vera).then(|| VeraProjections::new(spec));
    if let Some(projections) = &projections {
        tensors.insert(names::VERA_A.to_owned(), projections.a.as_ref());
        tensors.insert(names::VERA_B.to_owned(), projections.b.as_ref());
    }
    tensors.extend(adapter.head().iter().map(|(name, tensor)| (names::extra(name), tensor.as_ref())));
    let bytes = codec::encode(tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor)))?;
    fs::create_dir_all(directory).map_err(|source| AdapterError::Io { path: directory.to_owned(), source })?;
    replace(&directory.join(WEIGHTS), &bytes)?;
    replace(&directory.join(CONFIG), config::to_json(spec, options).as_bytes())
}

/// Reads a PEFT folder as an adapter of the given specification.
///
/// Names match when one is the other behind a dot, so that an adapter made for the bare encoder fits the same encoder
/// inside a classifier. Head tensors that the folder lacks are taken from `initial`.
///
/// # Errors
/// A configuration of another kind, rank or scaling; a tensor that is missing, ambiguous, misshapen or not finite.
pub fn read_peft(directory: &Path, spec: &Arc<AdapterSpec>, initial: &Adapter) -> Result<Adapter, AdapterError> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).map_err(|source| AdapterError::Io { path: path.clone(), source }).map(|bytes| (path, bytes))
    };
    let (config_path, json) = read(CONFIG)?;
    config::check(&json, spec).map_err(in_file(&config_path))?;
    let (path, bytes) = read(WEIGHTS)?;
    from_bytes(&bytes, spec, initial).map_err(in_file(&path))
}

fn from_bytes(bytes: &[u8], spec: &Arc<AdapterSpec>, initial: &Adapter) -> Result<Adapter, AdapterError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut modules = BTreeMap::new();
    for module in spec.modules.keys() {
        let find = |side| required(&file, &format!("{module}.{}", names::suffix(spec.kind, side)));
        modules.insert(module.clone(), LoraFactors { a: find(Side::A)?, b: find(Side::B)? });
    }
    let known = 2 * modules.len();
    let factors = file.names().iter().filter(|name| is_factor(name, spec.kind)).count();
    if factors != known {
        // An adapter with more modules than we apply would compute something else than what was trained.
        let name = file.names().into_iter().find(|name| is_factor(name, spec.kind) && !covered(name, spec));
        return Err(AdapterError::UnexpectedTensor { name: name.unwrap_or(WEIGHTS).to_owned() });
    }
    let mut head = BTreeMap::new();
    for (name, tensor) in initial.head() {
        head.insert(name.clone(), find(&file, name)?.unwrap_or_else(|| tensor.clone()));
    }
    Adapter::new(Arc::clone(spec), modules, head)
}

fn is_factor(name: &str, kind: AdapterKind) -> bool {
    [Side::A, Side::B].iter().any(|side| name.ends_with(names::suffix(kind, *side)))
}

fn covered(name: &str, spec: &AdapterSpec) -> bool {
    let of = |module: &ModuleName, side| fits(name, &format!("{module}.{}", names::suffix(spec.kind, side)));
    spec.modules.keys().any(|module| of(module, Side::A) || of(module, Side::B))
}

/// Whether a file's name, without PEFT's prefix, ends in `wanted` at a dot, or the other way round.
fn fits(name: &str, wanted: &str) -> bool {
    let name = name.strip_prefix(names::PREFIX).unwrap_or(name);
    let behind_dot = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    behind_dot(name, wanted) || behind_dot(wanted, name)
}

fn required(file: &SafeTensors<'_>, wanted: &str) -> Result<Tensor, AdapterError> {
    find(file, wanted)?.ok_or_else(|| AdapterError::MissingTensor { name: wanted.to_owned() })
}

fn find(file: &SafeTensors<'_>, wanted: &str) -> Result<Option<Tensor>, AdapterError> {
    let mut names = file.names();
    names.sort_unstable();
    let mut fitting = names.into_iter().filter(|name| fits(name, wanted));
    let Some(name) = fitting.next() else { return Ok(None) };
    if let Some(other) = fitting.next() {
        return Err(AdapterError::AmbiguousTensor {
            name: wanted.to_owned(),
            first: name.to_owned(),
            second: other.to_owned(),
        });
    }
    let view = file.tensor(name)?;
    if view.dtype() != Dtype::F32 {
        return Err(AdapterError::UnsupportedDtype { name: name.to_owned(), dtype: view.dtype().to_string() });
    }
    Tensor::new(view.shape().to_vec(), codec::f32_values(view.data())).map(Some)
}

fn in_file(path: &Path) -> impl FnOnce(AdapterError) -> AdapterError {
    move |source| AdapterError::InFile { path: path.to_owned(), source: Box::new(source) }
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), AdapterError> {
    let mut beside: PathBuf = path.to_owned();
    beside.as_mut_os_string().push(".partial");
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| {
        // The partial file is of no use to anyone; that it cannot be removed adds nothing to the error.
        let _ = fs::remove_file(&beside);
        AdapterError::Io { path: path.to_owned(), source }
    })
}
