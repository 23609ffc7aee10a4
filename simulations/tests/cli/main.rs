//! The program `fedlora-sim` as users meet it: started as a process, judged by its exit code, its words and its files.
//!
//! Runs train either a small vision transformer with random weights on the embedded digits, or the two-layer BERT of
//! the learner's tests on sentences written here: both take fractions of a second and no download.

mod answers;
mod bad_data;
mod bad_settings;
mod broken_disk;
mod central;
mod configurations;
mod determinism;
mod link;
mod pretrained;
mod private;
mod resume;
mod round_trip;
mod studies;
mod support;
