//! Who may connect: one-time tokens, certificates of the coordinator's own authority, and the register of both.
//!
//! An operator makes a token; a site trades it, once, for a certificate over a key that never leaves the site. What is
//! stored never suffices to pose as anybody: tokens are stored as hashes, keys not at all. Every call is looked up in
//! the register, so that a revocation counts at once and not when a certificate ends.

mod clients;
mod database;
mod directory;
mod enrolment;
mod error;
mod fingerprint;
mod folder;
mod names;
mod peer;
pub mod pki;
mod records;
mod registry;
mod role;
mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::Arc;

use crate::Timestamp;

pub use error::IdentityError;
pub use fingerprint::Fingerprint;
pub use peer::Peer;
pub use registry::Registry;
pub use role::Role;
pub use settings::RegistrySettings;

/// The time as the caller tells it, ms since the Unix epoch.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;
