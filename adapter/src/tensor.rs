//! Row-major f32 storage: the one layout that factors, heads and files share, so that nothing is transposed on its way.

use std::sync::Arc;

use crate::{AdapterError, mapped::MappedValues, spec::product};

/// Sums that are kept side by side, so that an addition need not wait for the one before it.
const LANES: usize = 8;

/// An owned row-major tensor.
///
/// Clones share their values until one of them is changed: thousands of clients hold the same broadcast adapter, and
/// what they keep, send and store are the same tensors under other names. The values may lie in a mapped file; they
/// then cost no memory that the system could not take back.
#[derive(Debug, Clone)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Values,
}

/// Where a tensor's values lie.
#[derive(Debug, Clone)]
enum Values {
    Owned(Arc<Vec<f32>>),
    Mapped(MappedValues),
}

impl Values {
    fn as_slice(&self) -> &[f32] {
        match self {
            Self::Owned(values) => values,
            Self::Mapped(values) => values.as_slice(),
        }
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self::Owned(Arc::new(values))
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.values() == other.values()
    }
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
            Some(expected) if expected == values.len() => Ok(Self { shape, values: values.into() }),
            _ => {
                Err(AdapterError::WrongLength { expected: expected.unwrap_or(usize::MAX), found: values.len(), shape })
            }
        }
    }

    /// A tensor whose values lie in a mapped file; they are as many as the product of `shape`.
    pub(crate) fn mapped(shape: Vec<usize>, values: MappedValues) -> Self {
        debug_assert_eq!(product(&shape), Some(values.len()));
        Self { shape, values: Values::Mapped(values) }
    }

    /// All zeros.
    #[must_use]
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()].into() }
    }

    /// Each value from its row-major index.
    #[must_use]
    pub fn from_fn(shape: &[usize], value: impl FnMut(usize) -> f32) -> Self {
        let length = shape.iter().product();
        let values: Vec<f32> = (0..length).map(value).collect();
        Self { shape: shape.to_vec(), values: values.into() }
    }

    /// Sizes, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Row-major values.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        self.values.as_slice()
    }

    /// Row-major values, to be changed in place; a tensor that shares them, or whose values lie in a file, gets its own
    /// first.
    pub fn values_mut(&mut self) -> &mut [f32] {
        if let Values::Mapped(values) = &self.values {
            self.values = values.as_slice().to_vec().into();
        }
        match &mut self.values {
            Values::Owned(values) => Arc::<Vec<f32>>::make_mut(values),
            Values::Mapped(_) => unreachable!("replaced above"),
        }
    }

    /// The values without their shape; copied only if another tensor shares them, or if they lie in a file.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        match self.values {
            Values::Owned(values) => Arc::unwrap_or_clone(values),
            Values::Mapped(values) => values.as_slice().to_vec(),
        }
    }

    /// A borrowed view.
    #[must_use]
    pub fn as_ref(&self) -> TensorRef<'_> {
        TensorRef { shape: &self.shape, values: self.values() }
    }

    /// Size in bytes on the wire, without headers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.values().len() as u64 * 4
    }

    /// The squared Frobenius norm of the difference to another tensor of the same shape, in f64.
    #[must_use]
    pub fn squared_distance(&self, other: &Self) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        for (own, other) in self.values().chunks(LANES).zip(other.values().chunks(LANES)) {
            for ((lane, &own), &other) in lanes.iter_mut().zip(own).zip(other) {
                let difference = f64::from(own) - f64::from(other);
                *lane += difference * difference;
            }
        }
        lanes.iter().sum()
    }

    /// Lets go of the memory that looking at values in a mapped file has cost; they are found there again.
    pub fn release(&self) {
        if let Values::Mapped(values) = &self.values {
            values.release();
        }
    }
}

impl TensorRef<'_> {
    /// A copy that owns its values.
    #[must_use]
    pub fn to_tensor(self) -> Tensor {
        Tensor { shape: self.shape.to_vec(), values: self.values.to_vec().into() }
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
