//! An input that an operation can do without, in the form that crosses burn's dispatch.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, Flex};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::storage::dense;

/// `Option<FloatTensor<B>>`, which burn's extensions do not take as it is.
#[derive(Debug, ExtensionType)]
pub(super) enum Optional<B: Backend> {
    Present(FloatTensor<B>),
    Absent,
}

impl Optional<Dispatch> {
    pub(super) fn new<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        tensor.map_or(Self::Absent, |tensor| Self::Present(tensor.into_dispatch()))
    }
}

impl Optional<Flex> {
    /// The dense tensor.
    pub(super) fn into_dense(self) -> Option<FlexTensor> {
        match self {
            Self::Present(tensor) => Some(dense(tensor)),
            Self::Absent => None,
        }
    }
}

impl<C: CheckpointStrategy> Optional<Autodiff<Flex, C>> {
    /// The dense tensor, as a constant.
    pub(super) fn into_constant(self) -> Option<FlexTensor> {
        match self {
            Self::Present(tensor) => Some(dense(tensor.into_primitive())),
            Self::Absent => None,
        }
    }
}
