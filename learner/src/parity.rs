//! Composite forms against fused ones through whole models: what GPUs compute, on the CPU.

#[path = "../tests/parity/mod.rs"]
mod work;

use half::{bf16, f16};

use self::work::{
    Found, compare, compare_lengths, groups, groups_of, passes, passes_of, plain, pretrained, private, texts,
    world::World,
};
use crate::{Device, GroupedAdapter, Precision, ops::testing::composite};

/// Some twenty sums of at most 48 products one behind the other, each rounded to 2^-24: 6e-5 of the largest value.
const PASS: f32 = 6e-5;

/// Six steps add up what passes differ by; the gradients of later ones are taken where the former have led, which changes them
/// by no more than that again.
const STEPS: f32 = 2.0 * 6.0 * PASS;

fn check(work: fn(&Device) -> Found, tolerance: f32) {
    let device = Device::flex();
    let (found, expected) = (composite(|| work(&device)), work(&device));
    assert_ne!(found, expected, "both forms are one");
    println!("{:.1e}", compare(&found, &expected, tolerance));
}

#[test]
fn passes_of_every_family_and_kind_have_the_logits_losses_and_gradients_of_fused_operations() {
    check(passes, PASS);
}

#[test]
fn clients_and_examples_in_one_pass_are_those_of_fused_operations() {
    check(groups, PASS);
}

#[test]
fn training_ends_where_it_ends_with_fused_operations() {
    check(plain, STEPS);
}

#[test]
fn private_training_ends_where_it_ends_with_fused_operations() {
    check(private, STEPS);
}

#[test]
fn pretraining_ends_where_it_ends_with_fused_operations() {
    check(pretrained, STEPS);
}

#[test]
fn greedy_texts_are_those_of_fused_operations() {
    let device = Device::flex();
    assert_eq!(composite(|| texts(&device)), texts(&device));
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    let device = Device::flex();
    let checkpointed = || groups_of(&device, GroupedAdapter::with_gradient_checkpointing);
    compare(&checkpointed(), &groups(&device), 0.0);
    compare(&composite(checkpointed), &composite(|| groups(&device)), 0.0);
}

/// Passes in a precision, and with weights that were rounded to it in the files. `OLoRA` is left out: what it leaves of a
/// weight is rounded again.
fn both(precision: Precision, round: fn(f32) -> f32) -> [Found; 2] {
    let device = Device::flex();
    let without_olora = |found: Found| found.into_iter().filter(|(name, _)| !name.contains("OLoRA")).collect();
    [
        without_olora(passes_of(&device, |family| World::load_as(family, precision, &device))),
        without_olora(passes_of(&device, |family| World::load_rounded(family, round, &device))),
    ]
}

#[test]
fn float16_weights_compute_as_their_values_in_32_bits() {
    let [found, expected] = both(Precision::Float16, |value| f16::from_f32(value).to_f32());
    assert_ne!(found, expected, "both forms are one");
    println!("{:.1e}", compare(&found, &expected, PASS));
}

/// A gradient has some forty products behind it, there and back, each with two roundings of 2^-9: 0.16 of its length.
const ROUNDED: f32 = 40.0 * 2.0 / 512.0;

#[test]
fn bfloat16_weights_compute_as_their_values_but_for_the_rounding_of_activations() {
    let [found, expected] = both(Precision::Bfloat16, |value| bf16::from_f32(value).to_f32());
    assert_ne!(found, expected, "both forms are one");
    println!("{:.1e}", compare_lengths(&found, &expected, ROUNDED));
}
