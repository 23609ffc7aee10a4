//! Composite forms against fused ones through whole models: what GPUs compute, on the CPU.

#[path = "../tests/parity/mod.rs"]
mod work;

use self::work::{Found, compare, groups, passes, plain, pretrained, private, texts};
use crate::{Device, ops::testing::composite};

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
