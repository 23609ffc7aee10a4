//! What every partition promises, over many shapes of data.

use fedlora_learner::data::{Groups, split_personal};
use proptest::prelude::*;

use super::*;

fn config(kind: PartitionKind, clients: usize) -> PartitionConfig {
    PartitionConfig { kind, num_clients: Some(clients), min_partition_size: 1, ..PartitionConfig::default() }
}

/// Images of one pixel, with ten labels.
fn dataset(labels: &[u32]) -> Dataset {
    let names = (0..10).map(|label| label.to_string()).collect();
    Dataset::images(vec![0.0; labels.len()], 1, labels.to_vec(), names).unwrap()
}

fn grouped(labels: &[u32], of_row: &[u32], groups: u32) -> Dataset {
    let names = (0..groups).map(|group| format!("site-{group}")).collect();
    dataset(labels).with_groups(Groups::new(names, of_row.to_vec())).unwrap()
}

fn divide(config: &PartitionConfig, dataset: &Dataset, seed: u64) -> Partition {
    partition(config, dataset, None, Seed(seed)).unwrap()
}

prop_compose! {
    /// Rows with a label and a group each; every one of the three groups occurs.
    fn data()(mut rows in prop::collection::vec((0..4_u32, 0..3_u32), 30..300)) -> (Vec<u32>, Vec<u32>) {
        rows.iter_mut().zip(0..3).for_each(|(row, group)| row.1 = group);
        rows.into_iter().unzip()
    }
}

proptest! {
    #[test]
    fn every_row_belongs_to_exactly_one_client((labels, of_row) in data(), seed: u64, alpha in 0.5..100.0) {
        let dataset = grouped(&labels, &of_row, 3);
        let files = [(0..10).collect(), (10..labels.len() as u32).collect()];
        for (kind, clients) in [
            (PartitionKind::Iid, 5),
            (PartitionKind::Dirichlet, 5),
            (PartitionKind::Column, 3),
            (PartitionKind::ColumnShards, 3),
            (PartitionKind::Files, 2),
        ] {
            let config = PartitionConfig { alpha, ..config(kind, clients) };
            let divided = partition(&config, &dataset, Some(&files), Seed(seed)).unwrap();
            let mut all = divided.rows().concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len() as u32).collect::<Vec<_>>(), "{:?}", kind);
            prop_assert_eq!(divided.names().len(), clients);
            prop_assert!(divided.rows().iter().all(|rows| !rows.is_empty() && rows.is_sorted()));
            prop_assert_eq!(&divided, &partition(&config, &dataset, Some(&files), Seed(seed)).unwrap());
        }
    }

    #[test]
    fn dirichlet_shares_are_never_below_the_minimum((labels, _) in data(), seed: u64, minimum in 1..6_usize) {
        let config = PartitionConfig { min_partition_size: minimum, ..config(PartitionKind::Dirichlet, 4) };
        let divided = divide(&config, &dataset(&labels), seed);
        prop_assert!(divided.rows().iter().all(|rows| rows.len() >= minimum));
    }

    #[test]
    fn a_limit_takes_rows_away_and_moves_none((labels, _) in data(), seed: u64, limit in 1..20_usize) {
        let whole = config(PartitionKind::Dirichlet, 4);
        let limited = PartitionConfig { max_partition_size: Some(limit), ..whole.clone() };
        let whole = divide(&whole, &dataset(&labels), seed);
        let limited = divide(&limited, &dataset(&labels), seed);
        for (all, kept) in whole.rows().iter().zip(limited.rows()) {
            prop_assert_eq!(kept.len(), all.len().min(limit));
            prop_assert!(kept.iter().all(|row| all.contains(row)));
        }
    }

    #[test]
    fn equal_shares_differ_by_one_row_at_most_and_ignore_labels((labels, _) in data(), seed: u64) {
        let config = config(PartitionKind::Iid, 7);
        let divided = divide(&config, &dataset(&labels), seed);
        let sizes: Vec<usize> = divided.rows().iter().map(Vec::len).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        prop_assert_eq!(divided, divide(&config, &dataset(&vec![0; labels.len()]), seed));
    }

    #[test]
    fn personal_test_rows_are_the_clients_own_and_follow_its_labels((labels, _) in data(), seed: u64) {
        let own: Vec<u32> = (0..labels.len() as u32).filter(|row| row % 3 != 0).collect();
        let (train, test) = split_personal(&own, &labels, 0.25, Seed(seed), ClientId(3)).unwrap();
        let mut both = [train, test.clone()].concat();
        both.sort_unstable();
        prop_assert_eq!(&both, &own);
        for label in 0..4 {
            let count = |rows: &[u32]| rows.iter().filter(|row| labels[**row as usize] == label).count();
            let (all, tested) = (count(&own), count(&test));
            prop_assert!(tested < all || all == 0);
            prop_assert_eq!(tested > 0, all > 1);
        }
    }
}

fn refused(config: &PartitionConfig, dataset: &Dataset) -> String {
    partition(config, dataset, None, Seed(1)).unwrap_err().to_string()
}

#[test]
fn shards_stay_within_their_group() {
    let of_row: Vec<u32> = (0..60).map(|row| row % 3).collect();
    let dataset = grouped(&[0; 60], &of_row, 3);
    let divided = divide(&config(PartitionKind::ColumnShards, 6), &dataset, 1);
    assert_eq!(divided.names(), ["site-0-0", "site-0-1", "site-1-0", "site-1-1", "site-2-0", "site-2-1"]);
    for (client, held) in divided.rows().iter().enumerate() {
        assert_eq!(held.len(), 10);
        assert!(held.iter().all(|row| of_row[*row as usize] as usize == client / 2));
    }
    let message = refused(&config(PartitionKind::ColumnShards, 7), &dataset);
    assert_eq!(message, "`num-clients` is 7, expected a multiple of the 3 groups of the data");
}

#[test]
fn groups_without_training_rows_are_no_clients() {
    let dataset = grouped(&[0, 1, 0, 1], &[0, 2, 2, 0], 4);
    let divided = divide(&config(PartitionKind::Column, 2), &dataset, 1);
    assert_eq!(divided.names(), ["site-0", "site-2"]);
    assert_eq!(divided.rows(), [vec![0, 3], vec![1, 2]]);
    assert!(divided.label_counts(&dataset).iter().all(|counts| counts[..3] == [1, 1, 0]));
    let message = refused(&config(PartitionKind::Column, 4), &dataset);
    assert_eq!(message, "`num-clients` is 4, but the data have 2 groups: leave it out");
}

#[test]
fn smaller_alphas_give_more_skewed_clients() {
    let dataset = dataset(&(0..2000).map(|row| row % 10).collect::<Vec<_>>());
    let largest_share = |alpha| {
        let config = PartitionConfig { alpha, ..config(PartitionKind::Dirichlet, 10) };
        let counts = divide(&config, &dataset, 1).label_counts(&dataset);
        counts.iter().map(|counts| counts.iter().max().unwrap()).sum::<usize>()
    };
    assert!(largest_share(0.1) > largest_share(1.0));
    assert!(largest_share(1.0) > largest_share(1000.0));
}

#[test]
fn what_does_not_fit_is_said_with_what_to_change() {
    let dataset = dataset(&[0; 40]);
    let kind = |kind| PartitionConfig { kind, ..PartitionConfig::default() };
    let dirichlet =
        |alpha, minimum| PartitionConfig { alpha, min_partition_size: minimum, ..config(PartitionKind::Dirichlet, 5) };
    assert_eq!(
        refused(&dirichlet(0.5, 9), &dataset),
        "40 rows cannot give 5 clients 9 rows each: lower `num-clients` or `min-partition-size`"
    );
    assert_eq!(
        refused(&dirichlet(1e-6, 1), &dataset),
        "in 1000 draws with alpha 0.000001 for 5 clients, the smallest client never held more than 0 rows, expected 1: \
         raise `alpha`, or lower `num-clients` or `min-partition-size`"
    );
    assert_eq!(refused(&dirichlet(0.0, 1), &dataset), "`alpha` is 0, expected a finite number above 0");
    assert_eq!(refused(&config(PartitionKind::Iid, 0), &dataset), "`num-clients` is 0, expected at least 1");
    assert_eq!(
        refused(&config(PartitionKind::Iid, 41), &dataset),
        "client-40 (`client-40`) holds 0 rows, expected at least 1: see `min-partition-size`"
    );
    assert!(refused(&kind(PartitionKind::Column), &dataset).contains("set `group-column`"));
    assert!(refused(&kind(PartitionKind::Files), &dataset).contains("are one file"));
    let empty = partition(&kind(PartitionKind::Files), &dataset, Some(&[(0..40).collect(), Vec::new()]), Seed(1));
    assert_eq!(
        empty.unwrap_err().to_string(),
        "client-1 (`client-1`) holds 0 rows, expected at least 10: see `min-partition-size`"
    );
    let none = split_personal(&[], &[], 0.5, Seed(1), ClientId(2)).unwrap_err();
    assert_eq!(none.to_string(), "client-2 holds no rows to train and test on");
}

#[test]
fn a_configuration_is_written_in_kebab_case_and_all_its_keys_have_defaults() {
    let empty: PartitionConfig = toml::from_str("").unwrap();
    assert_eq!(empty, PartitionConfig::default());
    let written = "kind = \"column-shards\"\nnum-clients = 6\nmin-partition-size = 2\npersonal-test-fraction = 0.2";
    let config: PartitionConfig = toml::from_str(written).unwrap();
    assert_eq!((config.kind, config.num_clients), (PartitionKind::ColumnShards, Some(6)));
    assert!(toml::from_str::<PartitionConfig>("clients = 6").is_err());
}
