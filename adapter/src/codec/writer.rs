//! A whole adapter's file, tensor by tensor as they become known: nobody ever holds all of them.
//!
//! Names and shapes follow from the specification, so the header and every place are known before the first value.
//! Tensors may come in any order. Each of the two digests has an order of its own; what comes before its turn is read
//! back from the file when that is there.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    mapping::{WrittenAdapter, in_file},
    names,
    whole::{Place, layout},
};
use crate::{Adapter, AdapterError, AdapterSpec, LoraFactors, ModuleName, Side, Tensor, hashing::DigestWriter};

/// Bytes read back at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// Writes an adapter's file. After an error it is of no use.
#[derive(Debug)]
pub struct AdapterWriter {
    spec: Arc<AdapterSpec>,
    path: PathBuf,
    file: File,
    cursor: u64,
    places: Vec<Place>,
    is_written: Vec<bool>,
    content: Sequence,
    adapter: Sequence,
}

/// A digest of tensors in an order of its own.
#[derive(Debug)]
struct Sequence {
    hasher: DigestWriter,
    order: Vec<usize>,
    next: usize,
}

impl AdapterWriter {
    /// Begins the file, which is empty and open for reading and writing; `path` is for messages.
    ///
    /// # Errors
    /// A specification that no adapter can have; I/O errors, with the path.
    pub fn new(spec: &Arc<AdapterSpec>, file: File, path: &Path) -> Result<Self, AdapterError> {
        spec.validate()?;
        let (head, places) = layout(spec)?;
        let order = adapter_order(spec, &places);
        let mut content = Sequence { hasher: DigestWriter::new(u64::MAX), order: (0..places.len()).collect(), next: 0 };
        let mut adapter = Sequence { hasher: DigestWriter::new(u64::MAX), order, next: 0 };
        content.hasher.write(&head);
        adapter.hasher.write(spec.digest().as_bytes());
        let (spec, path) = (Arc::clone(spec), path.to_owned());
        let is_written = vec![false; places.len()];
        let mut writer = Self { spec, path, file, cursor: 0, places, is_written, content, adapter };
        writer.write_at(0, &head)?;
        Ok(writer)
    }

    /// Adds the factors of a module.
    ///
    /// # Errors
    /// A module that the specification does not have, a factor of another shape or that is not finite; I/O errors.
    pub fn module(&mut self, name: &ModuleName, factors: &LoraFactors) -> Result<(), AdapterError> {
        let kind = self.spec.kind;
        for side in [Side::A, Side::B] {
            self.tensor(names::factor(kind, name, side), factors.side(side))?;
        }
        Ok(())
    }

    /// Adds an extra tensor.
    ///
    /// # Errors
    /// As [`AdapterWriter::module`].
    pub fn extra(&mut self, name: &str, tensor: &Tensor) -> Result<(), AdapterError> {
        self.tensor(names::extra(name), tensor)
    }

    /// Adds all of an adapter.
    ///
    /// # Errors
    /// As [`AdapterWriter::module`].
    pub fn whole(&mut self, adapter: &Adapter) -> Result<(), AdapterError> {
        adapter.head().iter().try_for_each(|(name, tensor)| self.extra(name, tensor))?;
        adapter.modules().iter().try_for_each(|(name, factors)| self.module(name, factors))
    }

    fn tensor(&mut self, name: String, tensor: &Tensor) -> Result<(), AdapterError> {
        let Ok(index) = self.places.binary_search_by(|place| place.name.cmp(&name)) else {
            return Err(AdapterError::UnexpectedTensor { name });
        };
        if std::mem::replace(&mut self.is_written[index], true) {
            return Err(AdapterError::DuplicateTensor { name });
        }
        let place = &self.places[index];
        tensor.as_ref().check(&name, &place.shape)?;
        let (start, bytes): (u64, &[u8]) = (place.start_bytes, bytemuck::cast_slice(tensor.values()));
        self.write_at(start, bytes)?;
        let Self { path, file, cursor, places, is_written, content, adapter, .. } = self;
        for sequence in [content, adapter] {
            while let Some(due) = sequence.due(is_written) {
                if due == index {
                    sequence.hasher.write(bytes);
                } else {
                    read_back(file, cursor, &places[due], &mut sequence.hasher).map_err(in_file(path))?;
                }
                sequence.next += 1;
            }
        }
        Ok(())
    }

    fn write_at(&mut self, start: u64, bytes: &[u8]) -> Result<(), AdapterError> {
        let sought = seek(&mut self.file, &mut self.cursor, start);
        sought.and_then(|()| self.file.write_all(bytes)).map_err(in_file(&self.path))?;
        self.cursor += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file. It is not durable yet.
    ///
    /// # Errors
    /// A tensor that was never added.
    pub fn finish(self) -> Result<WrittenAdapter, AdapterError> {
        if let Some((place, _)) = self.places.iter().zip(&self.is_written).find(|(_, is_written)| !**is_written) {
            return Err(AdapterError::MissingTensor { name: place.name.clone() });
        }
        let bytes = self.places.last().map_or(self.cursor, |place| place.start_bytes + place.bytes());
        Ok(WrittenAdapter {
            spec: self.spec,
            content: self.content.hasher.finish(),
            adapter: self.adapter.hasher.finish(),
            bytes,
        })
    }
}

impl Sequence {
    /// The tensor whose turn it is, if it is there.
    fn due(&self, is_written: &[bool]) -> Option<usize> {
        self.order.get(self.next).copied().filter(|&due| is_written[due])
    }
}

/// The places in the order of [`Adapter::digest`].
fn adapter_order(spec: &AdapterSpec, places: &[Place]) -> Vec<usize> {
    let sides = [Side::A, Side::B];
    let factors = spec.modules.keys().flat_map(|name| sides.map(|side| names::factor(spec.kind, name, side)));
    let all = factors.chain(spec.head.keys().map(|name| names::extra(name)));
    all.filter_map(|name| places.binary_search_by(|place| place.name.cmp(&name)).ok()).collect()
}

fn seek(file: &mut File, cursor: &mut u64, place: u64) -> io::Result<()> {
    if *cursor != place {
        file.seek(SeekFrom::Start(place))?;
        *cursor = place;
    }
    Ok(())
}

fn read_back(file: &mut File, cursor: &mut u64, place: &Place, hasher: &mut DigestWriter) -> io::Result<()> {
    seek(file, cursor, place.start_bytes)?;
    let mut block = vec![0; BLOCK_BYTES.min(place.bytes() as usize)];
    let mut rest = place.bytes() as usize;
    while rest > 0 {
        let block = &mut block[..rest.min(BLOCK_BYTES)];
        file.read_exact(block)?;
        hasher.write(block);
        rest -= block.len();
    }
    *cursor += place.bytes();
    Ok(())
}
