//! The services over gRPC. Nothing here decides about rounds: calls are checked, bounded and handed to the engine.

mod auth;
mod federation;
mod health;
mod identity;
mod limits;
pub mod operator;
mod patience;
pub(crate) mod progress;
pub(crate) mod status;
mod transport;

pub use auth::{Authenticator, UntilRevoked, until_revoked};
pub use federation::{Authenticate, FederationService, Now, Rounds, RoundsError, Settings};
pub use health::reflection;
pub use identity::{IdentityLimits, IdentityService};
pub use limits::{Gate, RateLimits};
pub use patience::{Patient, patient};
pub use progress::{CountBytes, CountBytesLayer};
pub use transport::server;
