//! Where randomness comes from. Only the operating system's makes anything private.

use std::fmt;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use crate::PrivacyError;

/// Whether noise can protect anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The operating system: nobody can repeat it.
    OperatingSystem,
    /// A seed: an experiment, since whoever knows the seed can take the noise off.
    Simulated,
}

mod sealed {
    /// Gives keys for `ChaCha20`. Sealed, so that nothing else can pass for the operating system.
    pub trait Keys {
        /// A key that is used once.
        fn key(&mut self) -> Result<[u8; 32], crate::PrivacyError>;
    }
}

/// A source of randomness for samples and noise: [`SecureRng`] or [`SimulatedRng`], and no other.
///
/// Every sample and every release takes a key of its own and stretches it by `ChaCha20`.
pub trait NoiseRng: sealed::Keys + fmt::Debug + Send {
    /// What it is worth.
    fn origin(&self) -> Origin;
}

/// The operating system's randomness.
///
/// It keeps no state in memory: every sample and release asks anew. So nothing is repeated after a restart, a fork or
/// the restore of a virtual machine, and nothing is left for those who read the memory later.
pub struct SecureRng {
    // Keeps others from making one without asking the system.
    asked: (),
}

impl SecureRng {
    /// Asks the operating system once, so that a machine without randomness says so at the start.
    ///
    /// # Errors
    /// [`PrivacyError::NoRandomness`].
    pub fn from_os() -> Result<Self, PrivacyError> {
        let mut rng = Self { asked: () };
        sealed::Keys::key(&mut rng)?;
        Ok(rng)
    }
}

impl sealed::Keys for SecureRng {
    fn key(&mut self) -> Result<[u8; 32], PrivacyError> {
        let () = self.asked;
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(PrivacyError::NoRandomness)?;
        Ok(key)
    }
}

impl NoiseRng for SecureRng {
    fn origin(&self) -> Origin {
        Origin::OperatingSystem
    }
}

impl fmt::Debug for SecureRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecureRng")
    }
}

/// Repeatable randomness for simulations and tests. What it makes is marked [`Origin::Simulated`] and protects nobody.
pub struct SimulatedRng(ChaCha20Rng);

impl SimulatedRng {
    /// The same seed gives the same samples and the same noise.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }
}

impl sealed::Keys for SimulatedRng {
    fn key(&mut self) -> Result<[u8; 32], PrivacyError> {
        let mut key = [0; 32];
        self.0.fill_bytes(&mut key);
        Ok(key)
    }
}

impl NoiseRng for SimulatedRng {
    fn origin(&self) -> Origin {
        Origin::Simulated
    }
}

impl fmt::Debug for SimulatedRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedRng")
    }
}
