//! Row-major f32 storage: the one layout that factors, heads and files share, so that nothing is transposed on its way.

use std::sync::Arc;

use crate::{AdapterError, spec::product};

/// An owned row-major tensor.
///
/// Clones share their values until one of them is changed: thousands of clients hold the same broadcast adapter, and
/// what they keep, send and store are the same tensors under other names.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Arc<Vec<f32>>,
}

/// A borrowed row-major tensor, perhaps in a mapped file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorRef<'a> {
    /// Sizes, outermost first.
    pub shape: &'a [usize],
    /// Row-major values; as many as the product of `shape`.
    pub values: &'a [f32],
}

impl Tensor {
    /// A tensor of the given shape.
    ///
    /// # Errors
    /// [`AdapterError::WrongLength`] unless the values fill the shape exactly.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, AdapterError> {
        let expected = product(&shape);
        match expected {
            Some(expected) if expected == values.len() => Ok(Self { shape, values: Arc::new(values) }),
            _ => {
                Err(AdapterError::WrongLength { expected: expected.unwrap_or(usize::MAX), found: values.len(), shape })
            }
        }
    }

    /// All zeros.
    #[must_use]
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), values: Arc::new(vec![0.0; shape.iter().product()]) }
    }

    /// Each value from its row-major index.
    #[must_use]
    pub fn from_fn(shape: &[usize], value: impl FnMut(usize) -> f32) -> Self {
        let length = shape.iter().product();
        Self { shape: shape.to_vec(), values: Arc::new((0..length).map(value).collect()) }
    }

    /// Sizes, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Row-major values.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Row-major values, to be changed in place; a tensor that shares them gets its own first.
    pub fn values_mut(&mut self) -> &mut [f32] {
        Arc::<Vec<f32>>::make_mut(&mut self.values)
    }

    /// The values without their shape; copied only if another tensor shares them.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.values)
    }

    /// A borrowed view.
    #[must_use]
    pub fn as_ref(&self) -> TensorRef<'_> {
        TensorRef { shape: &self.shape, values: &self.values }
    }

    /// Size in bytes on the wire, without headers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.values.len() as u64 * 4
    }
}

impl TensorRef<'_> {
    /// A copy that owns its values.
    #[must_use]
    pub fn to_tensor(self) -> Tensor {
        Tensor { shape: self.shape.to_vec(), values: Arc::new(self.values.to_vec()) }
    }

    /// First size; 1 for a scalar.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Product of all sizes but the first.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Checks shape and finiteness against what a specification asks for.
    pub(crate) fn check(&self, name: &str, expected: &[usize]) -> Result<(), AdapterError> {
        if self.shape != expected {
            return Err(AdapterError::WrongShape {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: self.shape.to_vec(),
            });
        }
        // Whole chunks without a way out halfway vectorise; the index is looked for only where there is one.
        let finite = |chunk: &[f32]| chunk.iter().fold(true, |finite, x| finite & x.is_finite());
        if self.values.chunks(4096).all(finite) {
            return Ok(());
        }
        let index = self.values.iter().position(|x| !x.is_finite()).unwrap_or(0);
        Err(AdapterError::NotFinite { name: name.to_owned(), index })
    }
}
