//! How bytes reach the services: TLS with client certificates, TLS alone, or clear text on this machine.
//!
//! The handshake proves who holds which key; whether the holder may do anything is decided on every call, by
//! [`Authenticator`](crate::Authenticator). A client certificate is therefore asked for and not demanded: enrolling
//! has none yet.

mod certificate;
mod connection;
mod explain;
mod handshakes;
mod incoming;
mod settings;

pub use certificate::ServerCertificate;
pub use connection::{ConnectionInfo, TlsConnection, peer_address};
pub(crate) use handshakes::site;
pub use incoming::tls_incoming;
pub use settings::{TlsError, TlsSettings};
