//! Tests of the whole, in one binary.

mod architecture;
mod manifests;
mod pages;
mod repository;
