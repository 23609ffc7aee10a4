//! The program `fedlora-sim` as users meet it: started as a process, judged by its exit code, its words and its files.
//!
//! Runs train a small vision transformer with random weights on the embedded digits, or the two-layer BERT and Llama of the
//! learner's tests on words written here: all take fractions of a second and no download.

mod answers;
mod bad_data;
mod bad_settings;
mod broken_disk;
mod central;
mod configurations;
mod determinism;
mod hub;
mod language;
mod link;
mod pretrained;
mod private;
mod resume;
mod round_trip;
mod studies;
mod support;
