//! How PEFT names tensors in `adapter_model.safetensors`.

use crate::{AdapterKind, ModuleName, Side};

/// What PEFT puts before every name of the wrapped model.
pub const PREFIX: &str = "base_model.model.";
/// VeRA's shared `A_f`.
pub const VERA_A: &str = "base_model.vera_A";
/// VeRA's shared `B_f`.
pub const VERA_B: &str = "base_model.vera_B";

/// What follows a module's name in that of its magnitudes.
const MAGNITUDE: &str = ".lora_magnitude_vector";
/// What follows a module's name in that of LoRA-XS's `L`: what PEFT calls a factor with its shape and its place.
const LEFT: &str = ".lora_B.weight";

/// File name of one factor of a module.
#[must_use]
pub fn factor(kind: AdapterKind, module: &ModuleName, side: Side) -> String {
    // Once for every tensor of every client's update, where formatting would cost several times as much.
    [PREFIX, module.as_str(), ".", suffix(kind, side)].concat()
}

/// Name of DoRA's magnitudes of a module, as of an extra tensor.
#[must_use]
pub fn magnitude(module: &ModuleName) -> String {
    [module.as_str(), MAGNITUDE].concat()
}

/// Whether an extra tensor has the name of a magnitude.
#[must_use]
pub fn is_magnitude(extra: &str) -> bool {
    extra.ends_with(MAGNITUDE)
}

/// Name of LoRA-XS's `L` of a module, as of an extra tensor.
#[must_use]
pub fn left(module: &ModuleName) -> String {
    [module.as_str(), LEFT].concat()
}

/// Whether an extra tensor has the name of an `L`.
#[must_use]
pub fn is_left(extra: &str) -> bool {
    extra.ends_with(LEFT)
}

/// File name of an extra tensor.
#[must_use]
pub fn extra(name: &str) -> String {
    [PREFIX, name].concat()
}

/// What follows the module's name.
#[must_use]
pub fn suffix(kind: AdapterKind, side: Side) -> &'static str {
    match (kind, side) {
        (AdapterKind::Vera, Side::A) => "vera_lambda_d",
        (AdapterKind::Vera, Side::B) => "vera_lambda_b",
        // PEFT has no such kind; the paper's letter.
        (AdapterKind::LoraXs, Side::B) => "lora_R.weight",
        (_, Side::A) => "lora_A.weight",
        (_, Side::B) => "lora_B.weight",
    }
}
