//! Between the CPU backend's tensors and slices.

use burn::tensor::{Bytes, DType, Tensor};
use burn_flex::{FlexTensor, Layout};

use crate::device::is_cpu;

/// Whether `x` lies where the fused kernels run: on the CPU backend, in `f32`.
pub(super) fn is_fused(x: &Tensor<2>) -> bool {
    #[cfg(test)]
    if super::testing::is_composite() {
        return false;
    }
    x.dtype() == DType::F32 && is_cpu(&x.device())
}

/// Whether the fused kernels run on `x` and this weight, which may be kept in another type.
pub(super) fn is_fused_with(x: &Tensor<2>, weight: &Tensor<2>) -> bool {
    is_fused(x) && weight.dtype() == DType::F32
}

/// A tensor that owns `values`.
pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.into()), DType::F32)
}

/// The extents of a matrix.
pub(super) fn extents<const D: usize>(x: &FlexTensor) -> [usize; D] {
    x.layout().shape().dims()
}

/// The elements in row-major order, copied only where a layout is not dense.
pub(super) fn dense(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() && x.as_slice::<f32>().is_some_and(|slice| slice.len() == x.storage::<f32>().len()) {
        x
    } else {
        x.to_contiguous()
    }
}

/// Cuts `values` into consecutive pieces of the given sizes.
pub(super) fn split_mut(mut values: &mut [f32], sizes: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
    sizes
        .map(|size| {
            let (piece, rest) = std::mem::take(&mut values).split_at_mut(size);
            values = rest;
            piece
        })
        .collect()
}
