//! Where the values of an update lie: in memory, of which a mapped file is a part, or in a file that is read in blocks.
//!
//! Positioned reads are for files of which little is known: another process that shortens one causes an error, in a
//! mapping a crash.

use std::{borrow::Cow, fs::File, io, path::PathBuf};

use crate::{AdapterError, ModuleName, Side, TensorRef};

/// Read access to the tensors of an update.
pub trait UpdateSource: Sync {
    /// One factor of a module, if it was sent.
    fn factor(&self, module: &ModuleName, side: Side) -> Option<TensorSource<'_>>;
    /// One extra tensor, if it was sent.
    fn extra(&self, name: &str) -> Option<TensorSource<'_>>;
    /// Lets go of memory that reading has cost so far. Whatever is read again afterwards is found as before.
    fn release(&self) {}
}

/// One tensor of an update, wherever its values lie.
#[derive(Debug, Clone, Copy)]
pub enum TensorSource<'a> {
    /// In memory.
    Memory(TensorRef<'a>),
    /// In a file.
    File(FileTensor<'a>),
}

/// One tensor of an update file.
#[derive(Debug, Clone, Copy)]
pub struct FileTensor<'a> {
    pub(crate) file: &'a File,
    pub(crate) path: &'a PathBuf,
    pub(crate) shape: &'a [usize],
    pub(crate) start_bytes: u64,
}

impl<'a> TensorSource<'a> {
    /// Sizes, outermost first.
    #[must_use]
    pub fn shape(&self) -> &'a [usize] {
        match self {
            Self::Memory(tensor) => tensor.shape,
            Self::File(tensor) => tensor.shape,
        }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row-major values from `offset` on: borrowed where they are in memory, else read into `block`.
    ///
    /// Returns `block.len()` values, or fewer at the end of the tensor, none behind it.
    ///
    /// # Errors
    /// An I/O error, with the file's path.
    pub fn block<'b>(&self, offset: usize, block: &'b mut [f32]) -> Result<&'b [f32], AdapterError>
    where
        'a: 'b,
    {
        let offset = offset.min(self.len());
        let length = block.len().min(self.len() - offset);
        match self {
            // Bounds: `offset + length` is at most `len()`, which is the number of values of a checked tensor.
            Self::Memory(tensor) => Ok(&tensor.values[offset..offset + length]),
            Self::File(tensor) => {
                let block = &mut block[..length];
                tensor.read(offset, block).map_err(|source| AdapterError::Io { path: tensor.path.clone(), source })?;
                Ok(block)
            }
        }
    }

    /// All values.
    ///
    /// # Errors
    /// An I/O error, with the file's path.
    pub fn load(&self) -> Result<Cow<'a, [f32]>, AdapterError> {
        match self {
            Self::Memory(tensor) => Ok(Cow::Borrowed(tensor.values)),
            Self::File(tensor) => {
                let mut values = vec![0.0; self.len()];
                tensor.read(0, &mut values).map_err(|source| AdapterError::Io { path: tensor.path.clone(), source })?;
                Ok(Cow::Owned(values))
            }
        }
    }
}

impl FileTensor<'_> {
    #[cfg(unix)]
    fn read(&self, offset: usize, out: &mut [f32]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;

        self.file.read_exact_at(bytemuck::cast_slice_mut(out), self.start_bytes + 4 * offset as u64)?;
        if cfg!(target_endian = "big") {
            for value in out {
                *value = f32::from_bits(value.to_bits().swap_bytes());
            }
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn read(&self, offset: usize, out: &mut [f32]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};

        // A handle of its own: positioned reads from several threads must not share a cursor.
        let mut file = File::open(self.path)?;
        file.seek(SeekFrom::Start(self.start_bytes + 4 * offset as u64))?;
        file.read_exact(bytemuck::cast_slice_mut(out))
    }
}
