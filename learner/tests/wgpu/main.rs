//! A GPU against the CPU, on wgpu's first device or the one that `FEDLORA_DEVICE` names; a software device will do.

mod memory;
#[path = "../parity/mod.rs"]
mod parity;

use fedlora_learner::{Device, DeviceError, GroupedAdapter, LearnerError, Precision, device};
use half::{bf16, f16};

use self::parity::{
    Found, compare, compare_lengths, groups, groups_of, passes, passes_of, plain, pretrained, private, texts,
    world::World,
};

fn gpu() -> Device {
    let name = std::env::var("FEDLORA_DEVICE").unwrap_or_else(|_| "wgpu:0".to_owned());
    device(&name).unwrap_or_else(|error| panic!("{error} (Debian's mesa-vulkan-drivers has a device in software)"))
}

fn cpu() -> Device {
    device("cpu").unwrap()
}

/// Some twenty sums of at most 48 products one behind the other, each rounded to 2^-24, are 6e-5 of the largest value;
/// Vulkan allows an exponential 3 + 2|x| units in the last place, which for |x| up to 8 in the softmax and the GELU of two
/// layers, there and back, adds 8 · 19 · 2^-24 = 1e-5.
const PASS: f32 = 1e-4;

/// Six steps add up what passes differ by; the gradients of later ones are taken where the former have led, which changes them
/// by no more than that again.
const STEPS: f32 = 2.0 * 6.0 * PASS;

/// A gradient has some forty products behind it, there and back, each with two roundings of 2^-9: 0.16 of its length.
const ROUNDED: f32 = 40.0 * 2.0 / 512.0;

#[test]
fn logits_losses_and_gradients_are_those_of_the_cpu_for_every_family_and_kind() {
    println!("passes: {:.1e}", compare(&passes(&gpu()), &passes(&cpu()), PASS));
}

#[test]
fn clients_and_examples_in_one_pass_are_those_of_the_cpu() {
    println!("groups: {:.1e}", compare(&groups(&gpu()), &groups(&cpu()), PASS));
}

#[test]
fn gradient_checkpointing_changes_nothing() {
    println!(
        "checkpointing: {:.1e}",
        compare(&groups_of(&gpu(), GroupedAdapter::with_gradient_checkpointing), &groups(&gpu()), PASS)
    );
}

/// Passes on the device in a precision, beside those of the same weights on the CPU in 32 bits; none on a device without it.
fn in_precision(precision: Precision, round: fn(f32) -> f32) -> Option<[Found; 2]> {
    let (gpu, cpu) = (gpu(), cpu());
    if let Err(error) = World::try_load_as("tiny_vit", precision, &gpu) {
        assert!(matches!(error, LearnerError::Device(DeviceError::Precision { .. })), "{error}");
        println!("{precision:?}: {error}");
        return None;
    }
    // What OLoRA leaves of a weight is rounded again.
    let without_olora = |found: Found| found.into_iter().filter(|(name, _)| !name.contains("OLoRA")).collect();
    let found = passes_of(&gpu, |family| World::load_as(family, precision, &gpu));
    let expected = passes_of(&cpu, |family| World::load_rounded(family, round, &cpu));
    Some([without_olora(found), without_olora(expected)])
}

#[test]
fn float16_weights_compute_as_their_values_in_32_bits() {
    if let Some([found, expected]) = in_precision(Precision::Float16, |value| f16::from_f32(value).to_f32()) {
        println!("float16: {:.1e}", compare(&found, &expected, PASS));
    }
}

#[test]
fn bfloat16_weights_compute_as_their_values_but_for_the_rounding_of_activations() {
    if let Some([found, expected]) = in_precision(Precision::Bfloat16, |value| bf16::from_f32(value).to_f32()) {
        println!("bfloat16: {:.1e}", compare_lengths(&found, &expected, ROUNDED));
    }
}

#[test]
fn training_ends_where_it_ends_on_the_cpu() {
    println!("training: {:.1e}", compare(&plain(&gpu()), &plain(&cpu()), STEPS));
}

#[test]
fn private_training_ends_where_it_ends_on_the_cpu() {
    println!("private training: {:.1e}", compare(&private(&gpu()), &private(&cpu()), STEPS));
}

#[test]
fn pretraining_ends_where_it_ends_on_the_cpu() {
    println!("pretraining: {:.1e}", compare(&pretrained(&gpu()), &pretrained(&cpu()), STEPS));
}

#[test]
fn greedy_texts_are_those_of_the_cpu() {
    assert_eq!(texts(&gpu()), texts(&cpu()));
}
