//! A GPU against the CPU, on wgpu's first device or the one that `FEDLORA_DEVICE` names; a software device will do.

mod memory;
#[path = "../parity/mod.rs"]
mod parity;

use fedlora_learner::{Device, device};

use self::parity::{compare, groups, passes, plain, pretrained, private, texts};

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

#[test]
fn logits_losses_and_gradients_are_those_of_the_cpu_for_every_family_and_kind() {
    println!("passes: {:.1e}", compare(&passes(&gpu()), &passes(&cpu()), PASS));
}

#[test]
fn clients_and_examples_in_one_pass_are_those_of_the_cpu() {
    println!("groups: {:.1e}", compare(&groups(&gpu()), &groups(&cpu()), PASS));
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
