//! What every method must do, what each must do by its paper, and vectors computed by dense formulas elsewhere.

mod attacks;
mod central;
mod conformance;
mod fedsvd;
mod flexlora;
mod golden;
mod init;
mod kinds;
mod linear;
mod lora_fair;
mod parts;
mod registry;
mod robust;
mod rolora;
mod support;
