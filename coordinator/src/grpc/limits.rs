//! How many calls one client and one address may make.

use std::{hash::Hash, net::IpAddr};
use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fedlora_adapter::ClientId;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};
use serde::{Deserialize, Serialize};

use super::status::CallError;

/// Calls after which those who have been quiet for long are forgotten.
const CLEAN_EVERY: u64 = 4096;

/// Limits on calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RateLimits {
    /// Calls and heartbeats of one client in a second, on average.
    pub client_per_second: NonZeroU32,
    /// Calls and heartbeats that one client may make at once.
    pub client_burst: NonZeroU32,
    /// Calls of one address in a second, on average; many clients may share one.
    pub address_per_second: NonZeroU32,
    /// Calls that one address may make at once.
    pub address_burst: NonZeroU32,
}

impl Default for RateLimits {
    fn default() -> Self {
        let number = |value| NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN);
        Self {
            client_per_second: number(50),
            client_burst: number(200),
            address_per_second: number(2_000),
            address_burst: number(20_000),
        }
    }
}

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock, NoOpMiddleware<<DefaultClock as Clock>::Instant>>;

/// Lets calls through, or not.
#[derive(Debug)]
pub struct Gate {
    clients: Limiter<ClientId>,
    addresses: Limiter<IpAddr>,
    clock: DefaultClock,
    calls: AtomicU64,
}

impl Gate {
    /// A gate with these limits.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        let client = Quota::per_second(limits.client_per_second).allow_burst(limits.client_burst);
        let address = Quota::per_second(limits.address_per_second).allow_burst(limits.address_burst);
        Self {
            clients: RateLimiter::hashmap(client),
            addresses: RateLimiter::hashmap(address),
            clock: DefaultClock::default(),
            calls: AtomicU64::new(0),
        }
    }

    /// One more call or heartbeat of a client.
    pub(crate) fn client(&self, client: ClientId) -> Result<(), CallError> {
        self.check(&self.clients, &client, "client")
    }

    /// One more call from an address; those without one come from this process.
    pub(crate) fn address(&self, address: Option<IpAddr>) -> Result<(), CallError> {
        address.map_or(Ok(()), |address| self.check(&self.addresses, &address, "address"))
    }

    fn check<K: Hash + Eq + Clone>(&self, limiter: &Limiter<K>, key: &K, whose: &'static str) -> Result<(), CallError> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % CLEAN_EVERY == CLEAN_EVERY - 1 {
            self.clients.retain_recent();
            self.addresses.retain_recent();
        }
        limiter.check_key(key).map_err(|until| {
            let retry_after = until.wait_time_from(self.clock.now()).max(Duration::from_secs(1));
            CallError::RateLimited { whose, retry_after }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_that_calls_too_often_does_not_disturb_another() {
        let limits = RateLimits {
            client_per_second: NonZeroU32::MIN,
            client_burst: NonZeroU32::new(3).expect("not zero"),
            ..RateLimits::default()
        };
        let gate = Gate::new(limits);
        let calls = |client| (0..5).filter(|_| gate.client(ClientId(client)).is_ok()).count();
        // A second could pass between the calls on a machine that hangs: 3 or more, but 5 only after two of them.
        assert!((3..5).contains(&calls(1)));
        assert!(calls(2) >= 3);
        let error = (0..5).find_map(|_| gate.client(ClientId(1)).err()).expect("used up");
        assert!(matches!(error, CallError::RateLimited { whose: "client", .. }));
    }
}
