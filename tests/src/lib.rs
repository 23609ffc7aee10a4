//! What the whole promises, tested from outside: nothing in this package ships.
//!
//! - `e2e/` is one test binary. It starts the real binaries as users do, and it holds the workspace to its own rules.
//!   `cargo test -p fedlora-tests --release`
//! - `interop/` holds scripts that load our adapters in Hugging Face `peft`, and that make `peft` adapters for us to load.
//! - `peers/` holds scripts that measure the same work in other software.
//!
//! The scripts need Python and pretrained weights, which no Rust test needs: each folder's README says how to run them.

pub mod one_hot;
