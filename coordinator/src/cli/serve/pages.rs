//! How the system hands out memory: in pages of its smallest size.

/// Turns off pages of 2 MiB for this process. The allocator asks for them, and a single byte that is written makes all of
/// one count: buffers of thousands of clients, of which most is never touched, would take half as much again.
#[cfg(target_os = "linux")]
pub(super) fn keep_small() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge-pages-not-turned-off");
    }
}

/// Elsewhere there is nothing to turn off.
#[cfg(not(target_os = "linux"))]
pub(super) fn keep_small() {}
