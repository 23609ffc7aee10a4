//! The transformer's operations, fused on the CPU and in plain tensor operations everywhere else.
//!
//! Activations are two-dimensional: the rows (tokens) of all sequences of a batch, one after the other, without
//! padding.

#![allow(clippy::inline_always, reason = "a vector instruction set holds only in what is inlined where it is enabled")]

mod attention;
mod buffers;
mod cross_entropy;
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
mod rms_norm;
mod rotary;
mod silu_gate;
mod storage;
#[cfg(test)]
pub(crate) mod testing;

pub use attention::{CachedKeys, CausalHeads, attention, causal_attention, causal_attention_of_cached};
pub use cross_entropy::cross_entropy;
pub use frozen_weight::FrozenWeight;
pub use gelu::gelu;
pub use grouped_linear::grouped_linear;
pub(crate) use layer_norm::composite as composite_layer_norm;
pub use layer_norm::{add_layer_norm, layer_norm};
pub use linear::linear;
pub use linear_dora::linear_dora;
pub use linear_lora::{Lora, linear_lora};
pub use mean_rows::mean_rows;
pub use rms_norm::rms_norm;
pub use rotary::rotary;
pub use silu_gate::silu_gate;
