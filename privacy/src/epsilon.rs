//! What a history comes to by both accountants, for people to read side by side.

use serde::{Deserialize, Serialize};

use crate::{Accountant, PldAccountant, PrivacyError, RdpAccountant, SampledGaussian};

/// An `epsilon` by both accountants, at one `delta`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Epsilon {
    /// By privacy loss distributions: the tightest.
    pub pld: f64,
    /// By Rényi divergences, as most tables in papers have it.
    pub rdp: f64,
}

impl Epsilon {
    /// Of one history; 0 of none.
    ///
    /// # Errors
    /// A `delta` outside (0, 1).
    pub fn of(history: &[SampledGaussian], delta: f64) -> Result<Self, PrivacyError> {
        let pld = PldAccountant::new().epsilon(history, delta)?;
        Ok(Self { pld, rdp: RdpAccountant::new().epsilon(history, delta)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_accountants_are_asked_about_the_whole_history() {
        let history = [(1.0, 40), (1.5, 10)].map(|(noise, steps)| SampledGaussian::new(noise, 0.05, steps).unwrap());
        let Epsilon { pld, rdp } = Epsilon::of(&history, 1e-5).unwrap();
        assert!(pld.total_cmp(&PldAccountant::new().epsilon(&history, 1e-5).unwrap()).is_eq());
        assert!(rdp.total_cmp(&RdpAccountant::new().epsilon(&history, 1e-5).unwrap()).is_eq());
        assert!(0.0 < pld && pld < rdp, "{pld} and {rdp}");
        assert_eq!(Epsilon::of(&[], 1e-5).unwrap(), Epsilon::default());
    }
}
