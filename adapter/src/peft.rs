//! Hugging Face PEFT's adapter folders: `adapter_config.json` beside `adapter_model.safetensors`.

mod config;
mod tensors;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, Side, VeraProjections,
    codec::{self, names},
};

pub use config::PeftOptions;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// A LoRA-XS adapter by its own tensors, which PEFT does not know and does not look for.
const OWN: &str = "lora_xs.safetensors";

/// Writes an adapter as a folder that `peft` loads as is.
///
/// `peft` has no LoRA-XS: it gets the plain LoRA that computes the same ([`Adapter::folded`]), and beside it lies
/// `lora_xs.safetensors` with what was trained and its constants: for each module `lora_A.weight`, `r x d_in`,
/// `lora_R.weight`, `r x r`, and `lora_B.weight`, `d_out x r`, named as `peft` names tensors, and the head.
///
/// Each file is written beside its final name and renamed, so that a full disk leaves no half-written adapter.
///
/// # Errors
/// I/O errors, with the path.
pub fn write_peft(directory: &Path, adapter: &Adapter, options: &PeftOptions) -> Result<(), AdapterError> {
    let own = (adapter.spec().kind == AdapterKind::LoraXs).then(|| codec::encode_adapter(adapter)).transpose()?;
    let adapter = adapter.folded()?;
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
    replace(directory, WEIGHTS, &bytes)?;
    own.map_or(Ok(()), |bytes| replace(directory, OWN, &bytes))?;
    replace(directory, CONFIG, config::to_json(spec, options).as_bytes())
}

/// Reads a PEFT folder as an adapter of the given specification.
///
/// Module names may differ by one prefix common to all, so that an adapter made for the bare encoder fits the same
/// encoder inside a classifier, and the other way round. Head tensors that the folder lacks are taken from `initial`.
/// A LoRA-XS adapter is read from its own file, whose names and head must be those of the specification.
///
/// # Errors
/// A configuration of another kind, rank or scaling, or under which the tensors would act differently here; a tensor
/// that is missing, ambiguous, misshapen, not F32, not finite or without a place in the specification; projections of
/// VeRA that are not those of the specification's seed.
pub fn read_peft(directory: &Path, spec: &Arc<AdapterSpec>, initial: &Adapter) -> Result<Adapter, AdapterError> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).map_err(|source| AdapterError::Io { path: path.clone(), source }).map(|bytes| (path, bytes))
    };
    let (config_path, json) = read(CONFIG)?;
    config::check(&json, &spec.folded()).map_err(in_file(&config_path))?;
    if spec.kind == AdapterKind::LoraXs {
        let (path, bytes) = read(OWN)?;
        return codec::decode_whole(&bytes, spec).map_err(in_file(&path));
    }
    let (path, bytes) = read(WEIGHTS)?;
    let weights = tensors::Weights::open(&bytes, spec).map_err(in_file(&path))?;
    config::check_patterns(&json, spec, &weights.modules()).map_err(in_file(&config_path))?;
    weights.adapter(initial).map_err(in_file(&path))
}

fn in_file(path: &Path) -> impl FnOnce(AdapterError) -> AdapterError {
    move |source| AdapterError::InFile { path: path.to_owned(), source: Box::new(source) }
}

/// Writes a file as a whole or not at all.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), AdapterError> {
    let path = directory.join(name);
    let mut beside: PathBuf = path.clone();
    beside.as_mut_os_string().push(".partial");
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        sync_names(directory)
    };
    write().map_err(|source| {
        // The partial file is of no use to anyone; that it cannot be removed adds nothing to the error.
        let _ = fs::remove_file(&beside);
        AdapterError::Io { path, source }
    })
}

/// A rename survives a power failure only once the directory has been written too.
#[cfg(unix)]
fn sync_names(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Elsewhere directories cannot be opened; the file system's own journal has to do.
#[cfg(not(unix))]
fn sync_names(_: &Path) -> io::Result<()> {
    Ok(())
}
