//! Holding rows out for testing, and thinning them.

use std::{borrow::Cow, collections::BTreeMap};

use fedlora_adapter::{Purpose, Seed};
use rand::Rng;
use rand::seq::SliceRandom;

/// Rows to train on and rows to test on; both ascending, together all rows that were split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdout {
    /// Rows to train on.
    pub train: Vec<u32>,
    /// Rows to test on.
    pub test: Vec<u32>,
}

/// Holds out a share of every stratum: `fraction` of its rows, rounded, but at least one and never all of them.
///
/// A stratum of a single row is trained on, since an unseen label could not be tested. Nothing is held out where
/// `fraction` is not above 0.
pub fn hold_out<K: Ord>(rows: &[u32], stratum: impl Fn(u32) -> K, fraction: f64, rng: &mut impl Rng) -> Holdout {
    let mut strata: BTreeMap<K, Vec<u32>> = BTreeMap::new();
    for &row in rows {
        strata.entry(stratum(row)).or_default().push(row);
    }
    let mut holdout = Holdout::default();
    for mut members in strata.into_values() {
        members.shuffle(rng);
        let (test, train) = members.split_at(tested(members.len(), fraction));
        holdout.test.extend(test);
        holdout.train.extend(train);
    }
    holdout.test.sort_unstable();
    holdout.train.sort_unstable();
    holdout
}

/// As [`hold_out`] by `label`, group by group: which rows of a group are held out follows from the seed and from that
/// group's name and rows alone, so that a site which has only its own rows holds out the same ones as whoever has all.
pub fn hold_out_by_group<'a, K: Ord>(
    rows: &[u32],
    group: impl Fn(u32) -> Cow<'a, str>,
    label: impl Fn(u32) -> K,
    fraction: f64,
    seed: Seed,
) -> Holdout {
    let mut groups: BTreeMap<Cow<'a, str>, Vec<u32>> = BTreeMap::new();
    for &row in rows {
        groups.entry(group(row)).or_default().push(row);
    }
    let mut holdout = Holdout::default();
    for (name, members) in groups {
        let own = hold_out(&members, &label, fraction, &mut seed.named(Purpose::Split, &name));
        holdout.train.extend(own.train);
        holdout.test.extend(own.test);
    }
    holdout.test.sort_unstable();
    holdout.train.sort_unstable();
    holdout
}

fn tested(rows: usize, fraction: f64) -> usize {
    if rows < 2 || fraction.is_nan() || fraction <= 0.0 {
        return 0;
    }
    ((rows as f64 * fraction).round() as usize).clamp(1, rows - 1)
}

/// A uniform sample of at most `limit` of the rows, in their order.
#[must_use]
pub fn thin(rows: Vec<u32>, limit: Option<usize>, rng: &mut impl Rng) -> Vec<u32> {
    let Some(limit) = limit.filter(|limit| *limit < rows.len()) else { return rows };
    let mut kept = rand::seq::index::sample(rng, rows.len(), limit).into_vec();
    kept.sort_unstable();
    kept.into_iter().filter_map(|index| rows.get(index).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stratum_keeps_rows_on_both_sides_where_it_has_two() {
        let rows: Vec<u32> = (0..107).collect();
        // Stratum 0 has one row, stratum 1 two, stratum 2 four, stratum 3 a hundred.
        let stratum = |row: u32| u32::from(row > 0) + u32::from(row > 2) + u32::from(row > 6);
        let holdout = hold_out(&rows, stratum, 0.2, &mut Seed(1).run(Purpose::Split));
        let count = |rows: &[u32]| [0, 1, 2, 3].map(|which| rows.iter().filter(|row| stratum(**row) == which).count());
        assert_eq!(count(&holdout.test), [0, 1, 1, 20]);
        assert_eq!(count(&holdout.train), [1, 1, 3, 80]);
        let mut all = [holdout.train, holdout.test].concat();
        all.sort_unstable();
        assert_eq!(all, rows);
    }

    #[test]
    fn what_a_group_holds_out_does_not_depend_on_the_other_groups() {
        let rows: Vec<u32> = (0..90).collect();
        let name = |row: u32| Cow::Owned(format!("site-{}", row % 3));
        let label = |row: u32| row / 3 % 2;
        let all = hold_out_by_group(&rows, name, label, 0.2, Seed(1));
        for site in 0..3 {
            let own = |rows: &[u32]| rows.iter().copied().filter(|row| row % 3 == site).collect::<Vec<_>>();
            let alone = hold_out_by_group(&own(&rows), name, label, 0.2, Seed(1));
            assert_eq!((alone.train, alone.test), (own(&all.train), own(&all.test)));
        }
        let places = |site| all.test.iter().filter(|row| *row % 3 == site).map(|row| row / 3).collect::<Vec<_>>();
        assert_ne!(places(0), places(1), "two groups of one shape draw different rows");
    }

    #[test]
    fn thinning_keeps_order_and_only_where_needed() {
        let mut rng = Seed(1).run(Purpose::Data);
        assert_eq!(thin(vec![5, 3, 8], Some(3), &mut rng), [5, 3, 8]);
        assert_eq!(thin(vec![5, 3, 8], None, &mut rng), [5, 3, 8]);
        let kept = thin((0..1000).collect(), Some(10), &mut rng);
        assert!(kept.len() == 10 && kept.is_sorted());
    }
}
