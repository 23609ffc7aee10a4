//! Tests of the whole, in one binary.

mod architecture;
mod deployment;
mod manifests;
mod pages;
mod repository;
