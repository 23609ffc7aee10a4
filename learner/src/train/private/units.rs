//! What private training protects at a client: its examples one by one, or all examples of a user together.

use std::collections::BTreeMap;

use fedlora_adapter::{PrivacyTerms, ProtectedUnit};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;

use crate::{Dataset, LearnerError, dropout::stream};

/// A client's rows as units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Units {
    /// Every row is a unit.
    Examples(Vec<u32>),
    /// Every user's rows are one; users in the order of their numbers.
    Users(Vec<Vec<u32>>),
}

/// The rows that a step uses of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// The unit's first row, which no other unit has.
    pub(crate) first: u32,
    /// At least one.
    pub(crate) rows: Vec<u32>,
}

impl Units {
    /// The units among some rows.
    ///
    /// # Errors
    /// [`LearnerError::NoUsers`] where users are to be protected in data that name none.
    pub(crate) fn of(rows: &[u32], unit: ProtectedUnit, dataset: &Dataset) -> Result<Self, LearnerError> {
        if unit == ProtectedUnit::Example {
            return Ok(Self::Examples(rows.to_vec()));
        }
        let users = dataset.users().ok_or(LearnerError::NoUsers)?.of_example();
        let mut by_user: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &row in rows {
            let user = users.get(row as usize).ok_or(LearnerError::NoUsers)?;
            by_user.entry(*user).or_default().push(row);
        }
        Ok(Self::Users(by_user.into_values().collect()))
    }

    /// Number of units.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Examples(rows) => rows.len(),
            Self::Users(users) => users.len(),
        }
    }

    /// What a step uses of one unit: of a user at most as many examples as the terms say, chosen anew in every step.
    ///
    /// The choice follows from the step and the user's own rows. If it followed from the user's place among those drawn,
    /// one user more would change what the others contribute.
    pub(super) fn draw(&self, unit: usize, terms: PrivacyTerms, step: u64, rng: &ChaCha12Rng) -> Option<Drawn> {
        let rows = match self {
            Self::Examples(rows) => std::slice::from_ref(rows.get(unit)?),
            Self::Users(users) => users.get(unit)?.as_slice(),
        };
        let (first, most) = (*rows.first()?, terms.max_examples_per_user() as usize);
        let mut rows = rows.to_vec();
        if rows.len() > most {
            let mut rng = rng.clone();
            rng.set_stream(stream(step, first));
            rows = rows.partial_shuffle(&mut rng, most).0.to_vec();
            rows.sort_unstable();
        }
        Some(Drawn { first, rows })
    }
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::{ClientId, NoiseLevel, Purpose, RoundId, Seed};

    use super::*;
    use crate::data::Groups;

    fn dataset(users: &[u32]) -> Dataset {
        let names = (0..5).map(|user| format!("user {user}")).collect();
        let data = Dataset::images(vec![0.0; users.len()], 1, vec![0; users.len()], vec!["one".into()]).unwrap();
        data.with_users(Groups::new(names, users.to_vec())).unwrap()
    }

    fn terms(most: u32) -> PrivacyTerms {
        PrivacyTerms::new(NoiseLevel::Multiplier(1.0), 1.0, 1e-5).unwrap().protecting_users(most).unwrap()
    }

    fn rng() -> ChaCha12Rng {
        Seed(1).client(Purpose::Shuffle, RoundId(1), ClientId(0))
    }

    #[test]
    fn a_users_rows_are_one_unit_and_a_client_has_only_its_own() {
        let data = dataset(&[3, 0, 3, 1, 3]);
        let users = Units::of(&[0, 2, 3], ProtectedUnit::User, &data).unwrap();
        assert_eq!(users, Units::Users(vec![vec![3], vec![0, 2]]));
        assert_eq!(users.draw(1, terms(9), 0, &rng()).unwrap(), Drawn { first: 0, rows: vec![0, 2] });
        let examples = Units::of(&[0, 2, 3], ProtectedUnit::Example, &data).unwrap();
        assert_eq!((users.len(), examples.len()), (2, 3));
        assert_eq!(examples.draw(1, terms(1), 0, &rng()).unwrap(), Drawn { first: 2, rows: vec![2] });
    }

    #[test]
    fn what_is_used_of_a_user_changes_with_the_step_and_not_with_other_users() {
        let drawn = |users: &[u32], unit, step| {
            let rows: Vec<u32> = (0..users.len() as u32).collect();
            let units = Units::of(&rows, ProtectedUnit::User, &dataset(users)).unwrap();
            units.draw(unit, terms(3), step, &rng()).unwrap().rows
        };
        let many: Vec<u32> = [4; 20].to_vec();
        let first = drawn(&many, 0, 0);
        assert_eq!(first.len(), 3);
        assert_eq!(drawn(&many, 0, 0), first);
        assert!((1..20).any(|step| drawn(&many, 0, step) != first), "the same rows in twenty steps");
        let beside_others: Vec<u32> = [&many[..], &[0, 1, 2]].concat();
        assert_eq!(drawn(&beside_others, 3, 0), first);
    }

    #[test]
    fn data_without_users_cannot_protect_them() {
        let data = Dataset::images(vec![0.0], 1, vec![0], vec!["one".into()]).unwrap();
        assert!(matches!(Units::of(&[0], ProtectedUnit::User, &data), Err(LearnerError::NoUsers)));
    }
}
