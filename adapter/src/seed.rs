//! Where every random choice comes from: one run seed, and a path of (round, client, purpose).
//!
//! The generator is `ChaCha12` keyed by BLAKE3 of the path. A choice therefore never depends on the order in which
//! clients run, on the number of threads or on which other choices were made.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::{ClientId, RoundId};

/// What a stream of random numbers is for; two purposes never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// First values of factors and head.
    Init,
    /// Which rows belong to which client.
    Partition,
    /// Which rows are held out for testing.
    Split,
    /// Which clients take part in a round.
    Cohort,
    /// Order of a client's examples.
    Shuffle,
    /// LoRA dropout masks.
    Dropout,
    /// Injected dropouts, stragglers and corruption.
    Faults,
    /// VeRA's frozen projections.
    Projection,
    /// Transformations and noise of generated data.
    Data,
    /// Samples and noise of simulated private training.
    Privacy,
    /// Tokens of generated text.
    Generation,
}

/// A run's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The generator for a choice that belongs to the whole run.
    #[must_use]
    pub fn run(self, purpose: Purpose) -> ChaCha12Rng {
        self.stream(purpose, 0, u64::MAX)
    }

    /// The generator for a choice that belongs to one round.
    #[must_use]
    pub fn round(self, purpose: Purpose, round: RoundId) -> ChaCha12Rng {
        self.stream(purpose, round.0, u64::MAX)
    }

    /// The generator for a choice that belongs to one client in one round.
    #[must_use]
    pub fn client(self, purpose: Purpose, round: RoundId, client: ClientId) -> ChaCha12Rng {
        self.stream(purpose, round.0, client.0)
    }

    /// The generator for a choice that belongs to one named thing, such as a tensor, whatever else there is.
    #[must_use]
    pub fn named(self, purpose: Purpose, name: &str) -> ChaCha12Rng {
        let mut hasher = blake3::Hasher::new_derive_key("fedlora 2026 named random choices");
        for word in [self.0, purpose as u64] {
            hasher.update(&word.to_le_bytes());
        }
        hasher.update(name.as_bytes());
        ChaCha12Rng::from_seed(*hasher.finalize().as_bytes())
    }

    fn stream(self, purpose: Purpose, round: u64, client: u64) -> ChaCha12Rng {
        let mut hasher = blake3::Hasher::new_derive_key("fedlora 2026 random choices");
        for word in [self.0, purpose as u64, round, client] {
            hasher.update(&word.to_le_bytes());
        }
        ChaCha12Rng::from_seed(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn every_part_of_the_path_changes_the_stream() {
        let first = |mut rng: ChaCha12Rng| rng.next_u64();
        let base = first(Seed(1).client(Purpose::Shuffle, RoundId(1), ClientId(1)));
        for other in [
            Seed(2).client(Purpose::Shuffle, RoundId(1), ClientId(1)),
            Seed(1).client(Purpose::Dropout, RoundId(1), ClientId(1)),
            Seed(1).client(Purpose::Shuffle, RoundId(2), ClientId(1)),
            Seed(1).client(Purpose::Shuffle, RoundId(1), ClientId(2)),
            Seed(1).round(Purpose::Shuffle, RoundId(1)),
        ] {
            assert_ne!(base, first(other));
        }
        assert_eq!(base, first(Seed(1).client(Purpose::Shuffle, RoundId(1), ClientId(1))));
    }
}
