//! The services for clients over real HTTP/2, in process, on an engine that only keeps books.

mod downloads;
mod engine;
mod files;
mod malformed;
mod operations;
mod sessions;
mod slow_uploads;
mod speed;
mod support;
mod uploads;

/// As in the programs: large pieces that come and go are cheap only where the allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
