//! What a client keeps to itself between rounds: factors and heads that never travel.

mod codec;
mod disk;

use std::{collections::BTreeMap, convert::Infallible};

use fedlora_adapter::{ClientId, Tensor};

pub use codec::{decode_kept, encode_kept};
pub use disk::{DiskStore, KeptError};

/// Kept tensors by their PEFT names. Empty for a client that has not taken part yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    /// Kept tensors by file name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Where kept tensors survive.
pub trait KeptStore {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What the client kept; empty if nothing yet.
    ///
    /// # Errors
    /// When the state exists but cannot be read: never "empty" in its place.
    fn load(&self, client: ClientId) -> Result<Kept, Self::Error>;

    /// Replaces what the client kept. Durable on return, so that an update is never sent before its counterpart is safe.
    ///
    /// # Errors
    /// When the state cannot be written; the previous state then stays.
    fn save(&mut self, client: ClientId, kept: Kept) -> Result<(), Self::Error>;
}

/// Kept tensors in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(BTreeMap<ClientId, Kept>);

impl KeptStore for MemoryStore {
    type Error = Infallible;

    fn load(&self, client: ClientId) -> Result<Kept, Infallible> {
        Ok(self.0.get(&client).cloned().unwrap_or_default())
    }

    fn save(&mut self, client: ClientId, kept: Kept) -> Result<(), Infallible> {
        self.0.insert(client, kept);
        Ok(())
    }
}
