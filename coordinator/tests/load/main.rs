//! What many clients cost a coordinator: the program itself in a process of its own, mutual TLS over this machine's
//! loopback, and light clients over the generated code in this process.
//!
//! Not part of a usual test run. `cargo test -p fedlora-coordinator --release --test load -- --ignored --nocapture
//! --test-threads 1` prints the figures. What has to hold on any machine is asserted: nobody is dropped, all come back,
//! every upload is accepted, every file is there to the byte, and a connected client costs no more than its bound. Times,
//! and the memory of transfers and server steps, are printed.
//!
//! | variable | default | meaning |
//! | --- | --- | --- |
//! | `FEDLORA_LOAD_CLIENTS` | 10000 | clients that are connected; each needs a file here and one in the coordinator |
//! | `FEDLORA_LOAD_HEARTBEATS` | 4 | of each, on average, before the coordinator is killed |
//! | `FEDLORA_LOAD_HEARTBEAT_MS` | 30000 | how often each one is heard |
//! | `FEDLORA_LOAD_UPLOADS` | 1000 | uploads at a time; all of them lie on the disk at once |
//! | `FEDLORA_LOAD_BYTES` | 13000000 | bytes of each, rounded up to whole modules |
//! | `FEDLORA_LOAD_ROUNDS` | 20 | rounds of clients that train nothing |
//! | `FEDLORA_LOAD_PROGRAM` | this build's | another coordinator, to compare |
//!
//! Memory is what the system says of the coordinator's process: `VmRSS`, and `VmHWM` for the most there was in a phase.

mod clients;
mod connections;
mod idle_rounds;
mod process;
mod rounds;
mod update;
mod world;

use std::env;

/// As in the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Bytes in MiB, for people.
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
