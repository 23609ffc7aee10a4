//! Handshakes under way, and how many there may be.
//!
//! An honest handshake takes milliseconds, one that is there to occupy a place takes as long as it may. Where there are
//! too many, the oldest one is therefore cut off, and the new one begins: silent connections push each other out, and
//! nobody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use tokio::task::AbortHandle;

/// Handshakes by age and by address.
#[derive(Debug)]
pub(super) struct Handshakes {
    most: usize,
    most_per_address: usize,
    next: u64,
    /// The handle comes once the handshake has begun.
    by_age: BTreeMap<u64, (IpAddr, Option<AbortHandle>)>,
    by_address: BTreeMap<IpAddr, BTreeSet<u64>>,
}

impl Handshakes {
    /// Limits of at least one each.
    pub(super) fn new(most: usize, most_per_address: usize) -> Self {
        let (by_age, by_address) = Default::default();
        Self { most: most.max(1), most_per_address: most_per_address.max(1), next: 0, by_age, by_address }
    }

    /// Takes a place for a handshake with an address, and gives it a number.
    pub(super) fn begin(&mut self, address: IpAddr) -> u64 {
        let same = self.by_address.get(&site(address));
        let oldest_of_address = same.filter(|ages| ages.len() >= self.most_per_address).and_then(BTreeSet::first);
        let oldest = self.by_age.keys().next().filter(|_| self.by_age.len() >= self.most);
        if let Some(&number) = oldest_of_address.or(oldest)
            && let Some((address, Some(handle))) = self.remove(number)
        {
            tracing::debug!(%address, "handshake-cut-off-for-another");
            handle.abort();
        }
        self.next += 1;
        self.by_age.insert(self.next, (address, None));
        self.by_address.entry(site(address)).or_default().insert(self.next);
        self.next
    }

    /// Notes how to cut a handshake off, unless it is over already.
    pub(super) fn attach(&mut self, number: u64, handle: AbortHandle) {
        if let Some((_, place)) = self.by_age.get_mut(&number) {
            *place = Some(handle);
        }
    }

    /// Forgets a handshake that is over.
    pub(super) fn end(&mut self, number: u64) {
        self.remove(number);
    }

    fn remove(&mut self, number: u64) -> Option<(IpAddr, Option<AbortHandle>)> {
        let (address, handle) = self.by_age.remove(&number)?;
        let key = site(address);
        let ages = self.by_address.get_mut(&key)?;
        ages.remove(&number);
        if ages.is_empty() {
            self.by_address.remove(&key);
        }
        Some((address, handle))
    }
}

/// What counts as one address: of IPv6, the first half, since a site has the second half to itself.
pub(crate) fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    /// Begins handshakes that never end; returns which were cut off.
    async fn cut_off(limits: (usize, usize), addresses: &[&str]) -> Vec<usize> {
        let mut handshakes = Handshakes::new(limits.0, limits.1);
        let mut tasks = JoinSet::new();
        let mut handles = Vec::new();
        for address in addresses {
            let address = address.parse().expect("an address");
            let number = handshakes.begin(address);
            let handle = tasks.spawn(std::future::pending::<()>());
            handles.push(handle.clone());
            handshakes.attach(number, handle);
        }
        // Cut off is cut off only when the runtime has seen it: the aborted ones are exactly those that end.
        let kept = handshakes.by_age.len();
        while tasks.len() > kept {
            assert!(tasks.join_next().await.expect("a task").is_err_and(|error| error.is_cancelled()));
        }
        handles.iter().enumerate().filter(|(_, handle)| handle.is_finished()).map(|(index, _)| index).collect()
    }

    #[tokio::test]
    async fn an_address_with_too_many_pushes_out_its_own_oldest() {
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.1", "10.0.0.1"];
        assert_eq!(cut_off((100, 2), &addresses).await, [0, 2]);
    }

    #[tokio::test]
    async fn with_too_many_in_all_the_oldest_goes() {
        assert_eq!(cut_off((2, 2), &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]).await, [0, 1]);
    }

    #[tokio::test]
    async fn addresses_of_one_ipv6_site_count_as_one() {
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:10.0.0.1"];
        assert_eq!(cut_off((100, 1), &addresses).await, [0]);
        assert_eq!(cut_off((100, 1), &["::ffff:10.0.0.1", "10.0.0.1"]).await, [0]);
    }

    #[tokio::test]
    async fn a_handshake_that_is_over_takes_no_place() {
        let mut handshakes = Handshakes::new(1, 1);
        let address: IpAddr = "10.0.0.1".parse().expect("an address");
        let mut tasks = JoinSet::new();
        let first = handshakes.begin(address);
        let handle = tasks.spawn(std::future::pending::<()>());
        handshakes.attach(first, handle.clone());
        handshakes.end(first);
        let second = handshakes.begin(address);
        handshakes.attach(first, handle.clone());
        handshakes.end(second);
        assert!(handshakes.by_age.is_empty() && handshakes.by_address.is_empty());
        tokio::task::yield_now().await;
        assert!(!handle.is_finished(), "it was not cut off");
    }
}
