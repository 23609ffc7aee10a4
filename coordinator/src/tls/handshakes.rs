//! Handshakes under way, and how many there may be.
//!
//! An honest handshake takes milliseconds of work, one that is there to occupy a place takes as long as it may. Where
//! there are too many, the oldest one is therefore cut off for the new one: silent connections push each other out, and
//! nobody else. One whose client has said its hello is not cut off before it had a fair time, though: when thousands of
//! clients come back at one moment, each new one would otherwise undo the work on another one, and hardly any would get
//! through. Until then new ones wait.
//!
//! Age is counted from the arrival, and places are taken later, when a client speaks or has been silent for long. So it may
//! be the new one that is the oldest of the silent, and goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::IpAddr,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// Ends when a handshake is cut off for another.
pub(super) type Cut = oneshot::Receiver<Infallible>;

/// What becomes of a connection that wants a place.
#[derive(Debug)]
pub(super) enum Turn {
    /// It has one, until it is cut off.
    Begins(Cut),
    /// There is none now.
    Waits,
    /// It is the one that would be cut off.
    PushedOut,
}

/// Handshakes by age and by address.
#[derive(Debug)]
pub(super) struct Handshakes {
    most: usize,
    most_per_address: usize,
    grace: Duration,
    next: u64,
    by_age: BTreeMap<u64, Handshake>,
    by_address: BTreeMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Handshake {
    address: IpAddr,
    /// When its client said hello, if it has.
    spoke: Option<Instant>,
    /// Dropped to cut it off.
    _cut: oneshot::Sender<Infallible>,
}

impl Handshakes {
    /// Limits of at least one each; nobody is cut off within `grace` after the hello.
    pub(super) fn new(most: usize, most_per_address: usize, grace: Duration) -> Self {
        let (by_age, by_address) = Default::default();
        let (most, most_per_address) = (most.max(1), most_per_address.max(1));
        Self { most, most_per_address, grace, next: 0, by_age, by_address }
    }

    /// The number of a connection that has just come: younger ones have larger numbers.
    pub(super) fn arrive(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes a place for a handshake with an address, if there is one or another can be cut off.
    pub(super) fn begin(&mut self, number: u64, address: IpAddr, is_silent: bool, now: Instant) -> Turn {
        let same = self.by_address.get(&site(address)).filter(|ages| ages.len() >= self.most_per_address);
        let may_go = |number: &u64| {
            let spoke = self.by_age.get(number).and_then(|handshake| handshake.spoke);
            spoke.is_none_or(|spoke| now - spoke >= self.grace)
        };
        let oldest = match same {
            Some(ages) => Some(ages.iter().copied().find(may_go)),
            None if self.by_age.len() >= self.most => Some(self.by_age.keys().copied().find(may_go)),
            None => None,
        };
        match oldest {
            Some(None) => return Turn::Waits,
            Some(Some(oldest)) if is_silent && number < oldest => return Turn::PushedOut,
            Some(Some(oldest)) => {
                self.end(oldest);
                tracing::debug!("handshake-cut-off-for-another");
            }
            None => {}
        }
        let (cut, is_cut) = oneshot::channel();
        self.by_age.insert(number, Handshake { address, spoke: None, _cut: cut });
        self.by_address.entry(site(address)).or_default().insert(number);
        Turn::Begins(is_cut)
    }

    /// Notes that a handshake's client has said hello.
    pub(super) fn spoke(&mut self, number: u64, now: Instant) {
        if let Some(handshake) = self.by_age.get_mut(&number) {
            handshake.spoke = Some(now);
        }
    }

    /// Forgets a handshake that is over, or cuts it off.
    pub(super) fn end(&mut self, number: u64) {
        let Some(Handshake { address, .. }) = self.by_age.remove(&number) else { return };
        let key = site(address);
        let Some(ages) = self.by_address.get_mut(&key) else { return };
        ages.remove(&number);
        if ages.is_empty() {
            self.by_address.remove(&key);
        }
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
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A connection that comes and wants a place at once.
    fn begin(handshakes: &mut Handshakes, text: &str, now: Instant) -> Option<(u64, Cut)> {
        let number = handshakes.arrive();
        match handshakes.begin(number, address(text), false, now) {
            Turn::Begins(cut) => Some((number, cut)),
            Turn::Waits | Turn::PushedOut => None,
        }
    }

    /// Begins handshakes of which nothing more is heard; returns which were cut off.
    fn cut_off(limits: (usize, usize), addresses: &[&str]) -> Vec<usize> {
        let mut handshakes = Handshakes::new(limits.0, limits.1, GRACE);
        let now = Instant::now();
        let begin = |text: &&str| begin(&mut handshakes, text, now).expect("the oldest goes").1;
        let mut cuts: Vec<Cut> = addresses.iter().map(begin).collect();
        let mut is_cut = |index: &usize| matches!(cuts[*index].try_recv(), Err(oneshot::error::TryRecvError::Closed));
        (0..addresses.len()).filter(|index| is_cut(index)).collect()
    }

    #[test]
    fn an_address_with_too_many_pushes_out_its_own_oldest() {
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.1", "10.0.0.1"];
        assert_eq!(cut_off((100, 2), &addresses), [0, 2]);
    }

    #[test]
    fn with_too_many_in_all_the_oldest_goes() {
        assert_eq!(cut_off((2, 2), &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]), [0, 1]);
    }

    #[test]
    fn addresses_of_one_ipv6_site_count_as_one() {
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:10.0.0.1"];
        assert_eq!(cut_off((100, 1), &addresses), [0]);
        assert_eq!(cut_off((100, 1), &["::ffff:10.0.0.1", "10.0.0.1"]), [0]);
    }

    #[test]
    fn who_has_spoken_is_not_cut_off_before_a_fair_time() {
        let mut handshakes = Handshakes::new(2, 2, GRACE);
        let now = Instant::now();
        let mut next = || begin(&mut handshakes, "10.0.0.1", now);
        let ((first, mut first_cut), (_, mut silent)) = (next().expect("free"), next().expect("free"));
        handshakes.spoke(first, now);
        let (second, _cut) = begin(&mut handshakes, "10.0.0.1", now).expect("in place of the silent one");
        assert!(matches!(silent.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        handshakes.spoke(second, now);
        assert!(begin(&mut handshakes, "10.0.0.1", now + GRACE / 2).is_none());
        assert!(matches!(first_cut.try_recv(), Err(oneshot::error::TryRecvError::Empty)), "goes on");
        assert!(begin(&mut handshakes, "10.0.0.1", now + GRACE).is_some());
        assert!(matches!(first_cut.try_recv(), Err(oneshot::error::TryRecvError::Closed)), "had its time");
    }

    #[test]
    fn of_silent_ones_the_youngest_stay_in_whatever_order_they_take_places() {
        let mut handshakes = Handshakes::new(2, 2, GRACE);
        let now = Instant::now();
        let numbers: Vec<u64> = (0..4).map(|_| handshakes.arrive()).collect();
        let mut turn = |index: usize| handshakes.begin(numbers[index], address("10.0.0.1"), true, now);
        let (Turn::Begins(mut second), Turn::Begins(mut fourth)) = (turn(1), turn(3)) else { panic!("free") };
        assert!(matches!(turn(0), Turn::PushedOut));
        assert!(matches!(turn(2), Turn::Begins(_)));
        assert!(matches!(second.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(fourth.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
    }

    #[test]
    fn a_handshake_that_is_over_takes_no_place() {
        let mut handshakes = Handshakes::new(1, 1, GRACE);
        let now = Instant::now();
        for _ in 0..2 {
            let (number, _) = begin(&mut handshakes, "10.0.0.1", now).expect("free");
            handshakes.end(number);
            handshakes.end(number);
        }
        assert!(handshakes.by_age.is_empty() && handshakes.by_address.is_empty());
    }
}
