//! Who is calling.

use fedlora_adapter::ClientId;

use super::Role;

/// The other end of a call, as its certificate or token says, never as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub client: ClientId,
    /// The name that the operator gave it.
    pub name: String,
    /// The institution that it belongs to.
    pub institution: String,
    /// What it may do.
    pub role: Role,
}
