//! A client is killed at random points of private rounds, again and again: whatever the coordinator has got of it is in
//! the ledger, and the ledger can always be read.
//!
//! `FEDLORA_KILLS=1000 cargo test --release -p fedlora-tests ledger_knows -- --nocapture` is the long form.

use std::time::Duration;

use fedlora_adapter::{Purpose, Seed};
use rand::RngExt;

use super::{
    super::patience,
    clinics::{Ask, Clinic, Federation},
};

/// More than can be spent here: what is tested is that nothing is forgotten.
const CLINIC: Clinic = Clinic { name: "amazon", examples: 32, limit: Some(1e9) };
/// More rounds than the kills can outlast.
const ROUNDS: u64 = 100_000;
/// One kill in about ten falls between a charge and its note, so that this many miss it once in e¹⁰ runs and more.
const MORE_KILLS: u64 = 100;

fn kills() -> u64 {
    std::env::var("FEDLORA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[test]
fn the_ledger_knows_of_every_update_that_a_killed_client_has_sent() {
    let federation = Federation::new(&[CLINIC]);
    federation.start(&Ask::rounds(ROUNDS));
    let mut rng = Seed(3).run(Purpose::Data);
    let mut seen = Seen::default();
    let mut killed = 0;
    // The last kills are those that it takes to see what this is about.
    while killed < kills() || (!seen.enough() && killed < kills() + MORE_KILLS) {
        let client = federation.join(CLINIC.name);
        // The point of the kill is what is random here; nothing waits for this time to be enough. On a machine where a
        // client needs longer to begin, the kills that are added come later and later.
        let latest_us = 600_000 * (1 + killed.saturating_sub(kills()) / 10);
        patience::pass(Duration::from_micros(rng.random_range(0..latest_us)));
        client.kill();
        seen = seen.and(&federation);
        killed += 1;
    }
    assert!(seen.enough() && seen.done < ROUNDS, "{killed} kills: {seen:?}");
    let verified = &federation.ledgers("verify", CLINIC.name)[0];
    assert_eq!(verified["holds"], true, "{verified}");
    println!("{killed} kills: {seen:?}");
}

/// What coordinator and ledger know.
#[derive(Debug, Default)]
struct Seen {
    /// Rounds whose update the coordinator has accepted.
    done: u64,
    reservations: u64,
    commits: u64,
    epsilon: f64,
}

impl Seen {
    /// A round that ended, and a kill between a charge and its note.
    fn enough(&self) -> bool {
        self.done > 0 && self.commits < self.reservations
    }

    /// The state after one kill more: nothing that was known before is gone.
    fn and(self, federation: &Federation) -> Self {
        // In this order: an update that arrives in between was charged long before.
        let run = federation.site.operator(&["run", "list"])["runs"][0].clone();
        let done = run["rounds_done"].as_u64().expect("a number");
        let ledgers = federation.ledgers("show", CLINIC.name);
        let number = |key: &str| ledgers.first().map_or(0, |ledger| ledger[key].as_u64().expect("a number"));
        let epsilon = ledgers.first().map_or(0.0, |ledger| ledger["epsilon"].as_f64().expect("a number"));
        let now = Self { done, reservations: number("reservations"), commits: number("commits"), epsilon };
        // An update is sent when its charge is noted as done, and not before.
        assert!(now.done <= now.commits && now.commits <= now.reservations, "{now:?}");
        assert!(now.reservations >= self.reservations && now.epsilon >= self.epsilon, "{self:?}, then {now:?}");
        now
    }
}
