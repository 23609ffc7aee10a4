//! Who is calling, decided on every call, and what is said to those who are turned away.

mod refusal;
mod until_revoked;

use fedlora_adapter::ClientId;
use tonic::{Request, Status};

use crate::{
    Timestamp,
    identity::{IdentityError, Peer, Registry, Role},
    tls::ConnectionInfo,
};

pub(super) use refusal::{refusal, refused};
pub use until_revoked::{UntilRevoked, until_revoked};

/// Metadata key of [`Authenticator::Trusting`].
const CLIENT_ID: &str = "fedlora-client-id";

/// How callers are known.
#[derive(Debug, Clone)]
pub enum Authenticator {
    /// By the key of their certificate, which TLS has verified.
    Certificates(Registry),
    /// By the access token in `authorization: Bearer …`, where TLS ends before the coordinator or there is none.
    Bearer(Registry),
    /// As the client whose number they give in `fedlora-client-id`. For tests and simulations inside one process: it
    /// must never listen on a socket.
    Trusting,
}

impl Authenticator {
    /// Who makes this call. Certificates and tokens are looked up anew on every call, so that one that has expired or
    /// was revoked is refused even on a connection that is already open.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for who is not known, `PERMISSION_DENIED` for who was revoked, both with the reason code in the
    /// metadata `fedlora-reason`.
    pub fn authenticate<T>(&self, request: &Request<T>, now: Timestamp) -> Result<Peer, Status> {
        let (registry, found) = match self {
            Self::Trusting => return trusted(request).map_err(|error| refusal(&error)),
            Self::Certificates(registry) => (registry, by_certificate(registry, request, now)),
            Self::Bearer(registry) => (registry, by_access_token(registry, request, now)),
        };
        let peer = found.map_err(|error| refusal(&error))?;
        registry.touch(peer.client, now);
        Ok(peer)
    }

    /// Resolves when a client is revoked, with what to tell it; at once if it is already, never if nobody can be. For
    /// calls that go on for long, beside their own work.
    pub fn revoked(&self, client: ClientId) -> impl Future<Output = Status> + Send + 'static {
        let registry = match self {
            Self::Certificates(registry) | Self::Bearer(registry) => Some(registry),
            Self::Trusting => None,
        };
        let revoked = registry.map(|registry| until_revoked::revoked(registry, client));
        async move {
            match revoked {
                Some(revoked) => revoked.await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Peer {
    /// Checks the role.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` with the reason `WRONG_ROLE`.
    pub fn require(&self, needed: Role) -> Result<(), Status> {
        if self.role.suffices_for(needed) {
            return Ok(());
        }
        let error = IdentityError::WrongRole { name: self.name.clone(), needed, found: self.role };
        Err(refusal(&error))
    }
}

fn by_certificate<T>(registry: &Registry, request: &Request<T>, now: Timestamp) -> Result<Peer, IdentityError> {
    let info = request.extensions().get::<ConnectionInfo>();
    let certificate = info.and_then(|info| info.certificate.as_deref());
    let missing = IdentityError::NoCredentials { wanted: "a client certificate" };
    registry.holder_of(certificate.ok_or(missing)?, now)
}

fn by_access_token<T>(registry: &Registry, request: &Request<T>, now: Timestamp) -> Result<Peer, IdentityError> {
    let value = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
    let missing = IdentityError::NoCredentials { wanted: "an access token" };
    registry.bearer_of(token.ok_or(missing)?, now)
}

fn trusted<T>(request: &Request<T>) -> Result<Peer, IdentityError> {
    let value = request.metadata().get(CLIENT_ID).and_then(|value| value.to_str().ok());
    let number = value.and_then(|value| value.parse().ok());
    let missing = IdentityError::NoCredentials { wanted: "a number in fedlora-client-id" };
    let client = ClientId(number.ok_or(missing)?);
    Ok(Peer { client, name: client.to_string(), institution: client.to_string(), role: Role::Client })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(key: &'static str, value: &str) -> Request<()> {
        let mut request = Request::new(());
        request.metadata_mut().insert(key, value.parse().expect("a value"));
        request
    }

    fn reason(status: &Status) -> &str {
        status.metadata().get("fedlora-reason").and_then(|value| value.to_str().ok()).unwrap_or("none")
    }

    #[test]
    fn a_trusting_server_takes_the_number_that_it_is_given_and_nothing_else() {
        let peer = Authenticator::Trusting.authenticate(&call(CLIENT_ID, "7"), Timestamp(0)).expect("a peer");
        assert_eq!((peer.client, peer.role), (ClientId(7), Role::Client));
        for value in ["", "-1", "seven", "18446744073709551616"] {
            let refused = Authenticator::Trusting.authenticate(&call(CLIENT_ID, value), Timestamp(0));
            assert_eq!(reason(&refused.expect_err("refused")), "CREDENTIALS_MISSING");
        }
    }

    #[test]
    fn a_role_that_does_not_suffice_is_named_beside_the_one_that_does() {
        let peer = Authenticator::Trusting.authenticate(&call(CLIENT_ID, "7"), Timestamp(0)).expect("a peer");
        assert!(peer.require(Role::Client).is_ok());
        let refused = peer.require(Role::Operator).expect_err("refused");
        assert_eq!((refused.code(), reason(&refused)), (tonic::Code::PermissionDenied, "WRONG_ROLE"));
        assert!(refused.message().contains("operator") && refused.message().contains("client"), "{refused}");
    }
}
