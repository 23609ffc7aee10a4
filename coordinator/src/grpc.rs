//! The services as gRPC.

mod auth;
mod identity;

pub use auth::{Authenticator, UntilRevoked, until_revoked};
pub use identity::{IdentityLimits, IdentityService};
