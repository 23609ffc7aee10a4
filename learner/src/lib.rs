//! Placeholder.

pub mod ops;
