//! Accountants by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Accountant, PldAccountant, PrivacyError, RdpAccountant};

/// Which accountant a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountantKind {
    /// Rényi differential privacy: milliseconds, and a few per cent of noise too much.
    Rdp,
    /// Privacy loss distributions: the least noise, in about a second.
    Pld,
}

impl AccountantKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rdp, Self::Pld];

    /// The name in configurations and commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rdp => "rdp",
            Self::Pld => "pld",
        }
    }

    /// The accountant with its defaults.
    #[must_use]
    pub fn build(self) -> Box<dyn Accountant> {
        match self {
            Self::Rdp => Box::new(RdpAccountant::new()),
            Self::Pld => Box::new(PldAccountant::new()),
        }
    }
}

impl fmt::Display for AccountantKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for AccountantKind {
    type Err = PrivacyError;

    fn from_str(name: &str) -> Result<Self, PrivacyError> {
        let unknown = || PrivacyError::UnknownAccountant { found: name.to_owned(), choices: "rdp, pld" };
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(unknown)
    }
}
