//! The transformer's operations, fused on the CPU and in plain tensor operations everywhere else.
//!
//! Activations are two-dimensional: the rows (tokens) of all sequences of a batch, one after the other, without
//! padding.

mod attention;
mod gelu;
mod layer_norm;
mod linear;
mod linear_lora;

pub use attention::attention;
pub use gelu::gelu;
pub use layer_norm::{add_layer_norm, layer_norm};
pub use linear::linear;
pub use linear_lora::{Lora, linear_lora};
