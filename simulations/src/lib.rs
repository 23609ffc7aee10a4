//! Federated LoRA on one machine: the coordinator's rounds, the clients' sessions and the trainer, with a virtual clock
//! in between.
//!
//! A [`World`](world::World) links one session that plays all clients to a run. What a client keeps lies in
//! [`States`](states::States), what the run measured in [`RoundMetrics`](metrics::RoundMetrics), and everything random
//! derives from the run's seed, so that equal configurations give equal bytes whatever the number of threads.

pub mod builtin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deployed;
pub mod digits;
mod error;
pub mod evaluation;
pub mod experiment;
pub mod faults;
pub mod metrics;
pub mod observer;
pub mod partition;
pub mod pretraining;
pub mod privacy;
pub mod record;
pub mod report;
pub mod runner;
pub mod server;
pub mod states;
pub mod study;
pub mod summary;
pub mod world;

pub use error::SimulationError;
pub use fedlora_client::files;
