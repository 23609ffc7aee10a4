//! What somebody may do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The three kinds of identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Trains in rounds, and nothing else.
    Client,
    /// Sees and changes runs, clients and tokens.
    Operator,
    /// Sees what an operator sees.
    Auditor,
}

impl Role {
    /// All of them, in the order in which messages list them.
    pub const ALL: [Self; 3] = [Self::Client, Self::Operator, Self::Auditor];

    /// Its name, such as `client`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether who has this role may do what needs the other. An operator may do what an auditor may; neither may take
    /// part in rounds, so that who watches a run has no vote in it.
    #[must_use]
    pub fn suffices_for(self, needed: Self) -> bool {
        self == needed || (self == Self::Operator && needed == Self::Auditor)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_operator_has_a_second_right() {
        let pairs = Role::ALL.map(|has| Role::ALL.map(|needed| has.suffices_for(needed)));
        assert_eq!(pairs, [[true, false, false], [false, true, true], [false, false, true]]);
    }

    #[test]
    fn names_come_back_as_roles() {
        assert!(Role::ALL.into_iter().all(|role| Role::find(role.as_str()) == Some(role)));
        assert_eq!(Role::find("Client"), None);
    }
}
