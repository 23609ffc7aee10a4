//! What the tests of the operations share.

use std::cell::Cell;

use burn::tensor::{Device, Tensor, TensorData};

thread_local! {
    static COMPOSITE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, all on one thread, with the composite form of every operation, as if on a GPU.
pub(crate) fn composite<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // The pool's thread ends with it, and its switch too.
    on_threads(1, || {
        COMPOSITE.set(true);
        work()
    })
}

/// Whether this thread computes by composite forms.
pub(super) fn is_composite() -> bool {
    COMPOSITE.get()
}

/// Numbers in [-1, 1) from a linear congruential generator: the same on every machine.
pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A constant on the CPU backend with autodiff.
pub(super) fn constant<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    let values = numbers(shape.iter().product(), seed);
    Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff())
}

/// A leaf that wants a gradient.
pub(super) fn leaf<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    constant(shape, seed).require_grad()
}

/// The elements of `x`.
pub(super) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().expect("f32 elements")
}

/// The bits of `x`, for exact comparisons.
pub(super) fn bits<const D: usize>(x: Tensor<D>) -> Vec<u32> {
    values(x).into_iter().map(f32::to_bits).collect()
}

/// Every element of `actual` lies within `tolerance` of its counterpart.
pub(super) fn assert_close<const D: usize>(actual: Tensor<D>, expected: Tensor<D>, tolerance: f32) {
    assert_eq!(actual.dims(), expected.dims());
    for (index, (actual, expected)) in values(actual).into_iter().zip(values(expected)).enumerate() {
        assert!((actual - expected).abs() <= tolerance, "element {index}: {actual} instead of {expected}");
    }
}

/// A number from which all elements' gradients differ: the sum of the elements times fixed weights.
pub(super) fn weighted_sum(y: Tensor<2>) -> Tensor<1> {
    let weights = constant(y.dims(), 99);
    (y * weights).sum()
}

/// Runs `work` in a pool of `threads` threads of its own.
pub(super) fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(work)
}
