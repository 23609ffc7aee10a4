//! Memory of large intermediate results, kept for the next ones.
//!
//! A training step makes and drops the same tens of large tensors every time. Memory fresh from the system is cleared
//! twice, page by page by the kernel and as a vector of zeros here, before an operation overwrites it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use burn_flex::FlexTensor;

use super::storage::extents;

/// Elements from which on a buffer is kept; the allocator is quick with smaller ones.
const SMALLEST: usize = 16 * 1024;

/// Elements kept at most, 512 MiB: a bound on what the process holds on to, not a measured need.
const KEPT: usize = 128 * 1024 * 1024;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// A vector of this length for an operation that writes every element: what it holds is unspecified.
pub(super) fn overwritten(length: usize) -> Vec<f32> {
    let kept = if length < SMALLEST { None } else { pool(|pool| pool.take(length)) };
    let mut buffer = kept.unwrap_or_default();
    // Cuts a longer buffer; the part by which a shorter one grows has to be set to something.
    buffer.resize(length, 0.0);
    buffer
}

/// Takes back the memory of a matrix that nobody needs any more; one that is shared stays with the others.
pub(super) fn recycle(matrix: FlexTensor) {
    let [rows, columns] = extents(&matrix);
    let whole = matrix.is_contiguous() && matrix.bytes().len() == rows * columns * size_of::<f32>();
    if rows * columns < SMALLEST || !whole || !matrix.is_unique() {
        return;
    }
    let (bytes, ..) = matrix.into_data().into_parts();
    // Memory that came from elsewhere with another alignment goes back to where it came from.
    if let Ok(buffer) = bytes.try_into_vec() {
        pool(|pool| pool.keep(buffer));
    }
}

/// Buffers hold numbers and nothing else: one that a panic left behind is as good as any.
fn pool<T>(work: impl FnOnce(&mut Pool) -> T) -> T {
    work(&mut POOL.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Buffers in the order in which they came.
#[derive(Debug)]
struct Pool {
    buffers: VecDeque<Vec<f32>>,
    elements: usize,
}

impl Pool {
    const fn new() -> Self {
        Self { buffers: VecDeque::new(), elements: 0 }
    }

    /// The smallest buffer with room for `length` elements and at most twice that; of equals the latest, which is most
    /// likely in a cache.
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        let fitting = self.buffers.iter().enumerate().rev().map(|(index, buffer)| (buffer.capacity(), index));
        let (_, index) = fitting
            .filter(|(capacity, _)| (length..=2 * length).contains(capacity))
            .min_by_key(|(capacity, _)| *capacity)?;
        let buffer = self.buffers.remove(index)?;
        self.elements -= buffer.capacity();
        Some(buffer)
    }

    /// Adds a buffer and lets go of the oldest ones as far as there are too many.
    fn keep(&mut self, buffer: Vec<f32>) {
        self.elements += buffer.capacity();
        self.buffers.push_back(buffer);
        while self.elements > KEPT {
            let Some(oldest) = self.buffers.pop_front() else { return };
            self.elements -= oldest.capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_for_its_own_length_and_for_little_less() {
        let mut pool = Pool::new();
        pool.keep(Vec::with_capacity(100));
        pool.keep(Vec::with_capacity(60));
        assert!(pool.take(101).is_none(), "too small");
        assert!(pool.take(29).is_none(), "too wasteful");
        assert_eq!(pool.take(50).map(|buffer| buffer.capacity()), Some(60), "the smaller one of two that fit");
        assert_eq!(pool.take(50).map(|buffer| buffer.capacity()), Some(100));
        assert_eq!((pool.buffers.len(), pool.elements), (0, 0));
    }

    #[test]
    fn the_oldest_buffers_go_when_there_are_too_many() {
        let mut pool = Pool::new();
        for half in [KEPT / 2, KEPT / 2 + 1] {
            pool.keep(Vec::with_capacity(half));
        }
        assert_eq!(pool.elements, KEPT / 2 + 1);
        assert!(pool.take(KEPT / 2 + 1).is_some());
    }
}
