//! The transformer's operations, fused on the CPU and in plain tensor operations everywhere else.
//!
//! Activations are two-dimensional: the rows (tokens) of all sequences of a batch, one after the other, without
//! padding.

#![allow(clippy::inline_always, reason = "a vector instruction set holds only in what is inlined where it is enabled")]

mod attention;
mod buffers;
mod elementwise;
mod frozen_weight;
mod gelu;
mod gemm;
mod grouped_linear;
mod layer_norm;
mod linear;
mod linear_dora;
mod linear_lora;
mod mean_rows;
mod optional;
mod storage;
#[cfg(test)]
mod testing;

pub use attention::attention;
pub use frozen_weight::FrozenWeight;
pub use gelu::gelu;
pub use grouped_linear::grouped_linear;
pub(crate) use layer_norm::composite as composite_layer_norm;
pub use layer_norm::{add_layer_norm, layer_norm};
pub use linear::linear;
pub use linear_dora::linear_dora;
pub use linear_lora::{Lora, linear_lora};
pub use mean_rows::mean_rows;
