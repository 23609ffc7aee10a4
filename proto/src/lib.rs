//! What travels between coordinator, clients and operators: generated messages and services, and their conversion.
//!
//! The code under `generated/` is committed, so that building needs no compiler of `.proto` files; a test proves it
//! current. Conversions to and from [`fedlora_adapter`] types are in one place, and every message from a peer goes
//! through them: what comes out is complete and in range.

mod codec;
mod convert;
mod error;

pub use codec::Codec;
pub use convert::{digest, digest_bytes};
pub use error::ProtoError;

/// Version of the protocol. Peers of another version are told so and turned away.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest number of bytes in one [`federation::Chunk`].
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// The client-facing services and their messages.
pub mod federation {
    #![allow(missing_docs, clippy::pedantic, reason = "generated from the documented .proto file")]
    include!("generated/fedlora.federation.v1.rs");
}

/// The operator's service and its messages.
pub mod operator {
    #![allow(missing_docs, clippy::pedantic, reason = "generated from the documented .proto file")]
    include!("generated/fedlora.operator.v1.rs");
}

/// All messages and services in encoded form, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
