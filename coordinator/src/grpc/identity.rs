//! The service that hands out certificates.

use std::{
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
};

use fedlora_adapter::ClientId;
use fedlora_proto::{
    PROTOCOL_VERSION,
    federation::{
        EnrolRequest, EnrolResponse, RenewRequest,
        identity_server::{Identity, IdentityServer},
    },
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tonic::{Code, Request, Response, Status};

use super::auth::{Authenticator, refusal, refused};
use crate::{
    identity::{IdentityError, Now, Registry},
    tls::{peer_address, site},
};

/// Largest message that is read, bytes: a request has about 500.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Addresses or clients remembered before those that have waited long enough are forgotten.
const REMEMBERED: usize = 10_000;

/// How often certificates may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityLimits {
    /// Enrolments per minute from one address (one /64 of IPv6), and at once.
    pub enrolments_per_minute: NonZeroU32,
    /// Renewals per minute of one client, and at once.
    pub renewals_per_minute: NonZeroU32,
}

impl Default for IdentityLimits {
    fn default() -> Self {
        // Unwrap safety: neither number is zero; the compiler checks it.
        const ENROLMENTS: NonZeroU32 = NonZeroU32::new(30).unwrap();
        const RENEWALS: NonZeroU32 = NonZeroU32::new(6).unwrap();
        Self { enrolments_per_minute: ENROLMENTS, renewals_per_minute: RENEWALS }
    }
}

/// Enrols with tokens, renews with certificates.
pub struct IdentityService {
    registry: Registry,
    authenticator: Authenticator,
    now: Now,
    enrolments: Rate<IpAddr>,
    renewals: Rate<ClientId>,
}

impl fmt::Debug for IdentityService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityService").field("authenticator", &self.authenticator).finish_non_exhaustive()
    }
}

impl IdentityService {
    /// The service over a register.
    #[must_use]
    pub fn new(registry: Registry, authenticator: Authenticator, limits: IdentityLimits, now: Now) -> Self {
        let enrolments = Rate::new(limits.enrolments_per_minute);
        let renewals = Rate::new(limits.renewals_per_minute);
        Self { registry, authenticator, now, enrolments, renewals }
    }

    /// The service for tonic, with a bound on the size of messages.
    #[must_use]
    pub fn into_server(self) -> IdentityServer<Self> {
        IdentityServer::new(self).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Runs a change of the register on a thread that may wait for the disk.
    async fn change(
        &self,
        change: impl FnOnce(&Registry) -> Result<EnrolResponse, IdentityError> + Send + 'static,
    ) -> Result<EnrolResponse, Status> {
        let registry = self.registry.clone();
        let changed = tokio::task::spawn_blocking(move || change(&registry)).await;
        let changed = changed.map_err(|_| Status::internal("the coordinator could not do this; its log says why"))?;
        changed.map_err(|error| refusal(&error))
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let address = peer_address(&request);
        // Inside one process there is no address; all such calls share one limit.
        self.enrolments.check(site(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())))?;
        let request = request.into_inner();
        check_version(request.protocol_version)?;
        let now = (self.now)();
        let enrolled = self.change(move |registry| registry.enrol(&request.token, &request.csr_pem, now)).await;
        let enrolled = enrolled.inspect_err(|status| {
            tracing::warn!(address = address.map(tracing::field::display), why = status.message(), "enrolment-refused");
        })?;
        tracing::info!(client = enrolled.client_id, name = enrolled.name, "client-enrolled");
        Ok(Response::new(enrolled))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<EnrolResponse>, Status> {
        let now = (self.now)();
        let peer = self.authenticator.authenticate(&request, now)?;
        self.renewals.check(peer.client)?;
        let request = request.into_inner();
        let renewed = self.change(move |registry| registry.renew(&peer, &request.csr_pem, now)).await?;
        tracing::info!(client = renewed.client_id, name = renewed.name, "certificate-renewed");
        Ok(Response::new(renewed))
    }
}

fn check_version(found: u32) -> Result<(), Status> {
    if found == PROTOCOL_VERSION {
        return Ok(());
    }
    let message =
        format!("the client speaks version {found} of the protocol, the coordinator version {PROTOCOL_VERSION}");
    Err(refused(Code::FailedPrecondition, "PROTOCOL_VERSION", message))
}

/// So many calls per minute for each key.
struct Rate<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    per_minute: NonZeroU32,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    fn new(per_minute: NonZeroU32) -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_minute(per_minute)), per_minute }
    }

    fn check(&self, key: K) -> Result<(), Status> {
        if self.limiter.len() > REMEMBERED {
            self.limiter.retain_recent();
        }
        let per_minute = self.per_minute;
        let message = || format!("no more than {per_minute} of these calls per minute: wait a minute");
        let checked = self.limiter.check_key(&key);
        checked.map_err(|_| refused(Code::ResourceExhausted, "RATE_LIMITED", message()))
    }
}
