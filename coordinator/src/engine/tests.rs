//! The engine against a reference model, against the loss of power, and through restarts.

mod central;
mod crash;
mod deadlines;
mod failures;
mod handle;
mod media;
mod model;
mod network;
mod permutations;
mod poisoned;
mod recovery;
mod runs;
mod sessions;
mod support;
mod verdicts;
