//! The server's arithmetic: what becomes of the adapters that clients send, and nothing else.
//!
//! One file per federated method under `methods/`, one row per method in [`METHODS`], one entry point,
//! [`aggregate()`], or [`aggregate_into()`] where the result is not to be in memory, and [`PrivateMean`] for the same with
//! differential privacy. There is no network, clock or random
//! choice here, but for the noise that a caller hands in: the same updates give the same bytes, whatever the order of their
//! arrival and the number of threads.
//!
//! Letters, everywhere in this crate: client `k` sends `A_k` (`r x d_in`) and `B_k` (`d_out x r`) with share `p_k`;
//! shares sum to one; a bar is the weighted mean; `dW* = sum p_k B_k A_k` is the mean of the products, which is what
//! an ideal server would install. No `d_out x d_in` matrix is ever formed: every product is associated so that the
//! rank stays inside. The LoRA scale `s` is common to all clients and so never appears.

mod aggregate;
mod central;
mod cohort;
mod distance;
mod error;
mod init;
mod low_rank;
mod mean;
mod methods;
mod order;
mod parameters;
mod parts;
mod residual;
mod strategy;
mod updates;
mod votes;

pub use aggregate::{Aggregated, WeightedUpdate, aggregate, aggregate_into};
pub use central::PrivateMean;
pub use cohort::Weighting;
pub use error::AggregationError;
pub use init::{INITS, Init, InitRow, initial, initial_from};
pub use methods::{METHODS, Method};
pub use parts::{Destination, Part};
pub use strategy::{Contribution, Strategy};
pub use updates::Updates;
