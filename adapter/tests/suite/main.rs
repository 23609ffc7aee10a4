//! The vocabulary's promises: what exists is valid, what is written can be read, what is hostile is refused.

mod constructors;
mod directives;
mod files;
mod hostile;
mod identity;
mod peft;
mod peft_refusals;
mod support;
mod written;
