//! GPUs as burn's backends see them.

use super::{
    machine::{Backend, Gpu},
    name::BACKENDS,
};

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;

/// Every backend, with what it finds on this machine.
pub(super) fn backends() -> Vec<Backend> {
    BACKENDS.into_iter().map(|name| Backend { name, gpus: find(name) }).collect()
}

/// A backend's GPUs; none if it is not in this build.
fn find(backend: &str) -> Option<Vec<Gpu>> {
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => Some(cube::cuda()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(cube::wgpu()),
        _ => None,
    }
}
