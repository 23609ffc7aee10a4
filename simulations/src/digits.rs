//! Data that ship with the program: handwritten digits (see `data/ATTRIBUTION.md`) seen by six sites in six ways.
//!
//! A run on them needs no download and shows what federated LoRA is for: one base model, pretrained on plain digits,
//! and clients whose images look different from it and from each other.

mod domain;

use fedlora_adapter::{Purpose, Seed};
use fedlora_learner::data::{Dataset, Groups, hold_out};

use crate::SimulationError;
use crate::partition::{PartitionConfig, PartitionKind, partition};

pub use domain::{Domain, Image, SIDE};

const LINES: &str = include_str!("../data/optdigits.tes");

/// Share of all digits that the base model is pretrained on.
const PRETRAINING: f64 = 0.4;
/// Seed of that choice: all runs share one base model, whatever their own seed.
pub const PRETRAINING_SEED: Seed = Seed(0);
/// Share of the others that nobody trains on.
const TEST: f64 = 1.0 / 3.0;
/// Mild label skew: clients see nearly all digits, in different proportions.
const ALPHA: f64 = 1.0;
/// Enough for a few batches and a personal test set.
const SMALLEST_CLIENT: usize = 50;

/// Digits for pretraining and for a federation of six clients; no digit serves two purposes.
///
/// Images are `[1, 8, 8]` with values from -1 (paper) to 1 (ink).
#[derive(Debug, Clone, PartialEq)]
pub struct Quickstart {
    /// Plain digits for the base model.
    pub pretrain: Dataset,
    /// The clients' digits; their groups are the domains.
    pub train: Dataset,
    /// Each client's rows of `train`; client `k` sees the domain `Domain::ALL[k]`.
    pub clients: Vec<Vec<u32>>,
    /// Each client's name, after its domain.
    pub client_names: Vec<String>,
    /// Every test digit in every domain; groups are the domains.
    pub test: Dataset,
}

/// Splits and transforms the embedded digits. Equal seeds give equal bytes.
///
/// # Errors
///
/// Where no draw of label proportions leaves every client enough digits, which none of the usual seeds meets.
pub fn quickstart_data(seed: Seed) -> Result<Quickstart, SimulationError> {
    let digits = Digits::embedded();
    let label = |row: u32| digits.labels[row as usize];
    let all: Vec<u32> = (0..digits.labels.len() as u32).collect();
    let pretrained = hold_out(&all, label, PRETRAINING, &mut PRETRAINING_SEED.run(Purpose::Split));
    let tested = hold_out(&pretrained.train, label, TEST, &mut seed.run(Purpose::Split));

    let plain: Vec<Sighting> = pretrained.test.iter().map(|row| (*row, Domain::Plain)).collect();
    let clients = clients(&digits, &tested.train, seed)?;
    let seen = |(client, domain): (&Vec<u32>, Domain)| -> Vec<Sighting> {
        client.iter().map(|position| (tested.train[*position as usize], domain)).collect()
    };
    let held: Vec<Vec<Sighting>> = clients.iter().zip(Domain::ALL).map(seen).collect();
    let everywhere: Vec<Sighting> =
        Domain::ALL.into_iter().flat_map(|domain| tested.test.iter().map(move |row| (*row, domain))).collect();

    let noise = &mut seed.run(Purpose::Data);
    Ok(Quickstart {
        pretrain: digits.dataset(&plain, noise)?,
        train: digits.dataset(&held.concat(), noise)?,
        clients: consecutive(&held),
        client_names: domain_names(),
        test: digits.dataset(&everywhere, noise)?,
    })
}

/// A digit, by its line in the file, as one site sees it.
type Sighting = (u32, Domain);

/// Positions in `rows`, divided among the six clients with mild label skew.
fn clients(digits: &Digits, rows: &[u32], seed: Seed) -> Result<Vec<Vec<u32>>, SimulationError> {
    let config = PartitionConfig {
        kind: PartitionKind::Dirichlet,
        num_clients: Some(Domain::ALL.len()),
        alpha: ALPHA,
        min_partition_size: SMALLEST_CLIENT,
        ..PartitionConfig::default()
    };
    let plain: Vec<Sighting> = rows.iter().map(|row| (*row, Domain::Plain)).collect();
    let dataset = digits.dataset(&plain, &mut seed.run(Purpose::Data))?;
    Ok(partition(&config, &dataset, None, seed)?.into_iter().collect())
}

/// The rows of lists that are laid end to end.
fn consecutive(lists: &[Vec<Sighting>]) -> Vec<Vec<u32>> {
    let mut start = 0;
    let mut rows = Vec::with_capacity(lists.len());
    for list in lists {
        let end = start + list.len() as u32;
        rows.push((start..end).collect());
        start = end;
    }
    rows
}

fn domain_names() -> Vec<String> {
    Domain::ALL.iter().map(|domain| domain.name().to_owned()).collect()
}

/// All digits of the file, in its order.
struct Digits {
    images: Vec<Image>,
    labels: Vec<u32>,
}

impl Digits {
    fn embedded() -> Self {
        // Cannot fail: the file is part of the program, and the tests read all of it.
        let digit = |line| parse(line).expect("every embedded line is 64 levels and a digit");
        let (images, labels) = LINES.trim_end().lines().map(digit).unzip();
        Self { images, labels }
    }

    /// Images of some digits in their domains, with the domains as groups.
    fn dataset(&self, sightings: &[Sighting], noise: &mut impl rand::Rng) -> Result<Dataset, SimulationError> {
        let mut pixels = Vec::with_capacity(sightings.len() * SIDE * SIDE);
        for (row, domain) in sightings {
            pixels.extend(domain.see(&self.images[*row as usize], noise));
        }
        let labels = sightings.iter().map(|(row, _)| self.labels[*row as usize]).collect();
        let names = (0..10).map(|digit| digit.to_string()).collect();
        let groups = Groups::new(domain_names(), sightings.iter().map(|(_, domain)| *domain as u32).collect());
        Ok(Dataset::images(pixels, SIDE * SIDE, labels, names)?.with_groups(groups)?)
    }
}

/// Levels 0 to 16 become -1 to 1.
fn parse(line: &str) -> Option<(Image, u32)> {
    let numbers = line.split(',').map(|number| number.parse::<u8>().ok()).collect::<Option<Vec<_>>>()?;
    let (label, levels) = numbers.split_last()?;
    let levels: [u8; SIDE * SIDE] = levels.try_into().ok()?;
    Some((levels.map(|level| f32::from(level) / 8.0 - 1.0), u32::from(*label)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fedlora_learner::{Batch, Inputs};

    use super::*;

    fn images(batch: Batch) -> Vec<Vec<u32>> {
        let Inputs::Images { pixels, .. } = batch.inputs else { panic!("expected images") };
        pixels.chunks(SIDE * SIDE).map(|image| image.iter().map(|pixel| pixel.to_bits()).collect()).collect()
    }

    fn rows(dataset: &Dataset) -> Vec<u32> {
        (0..dataset.len() as u32).collect()
    }

    #[test]
    fn every_embedded_line_is_an_image_of_17_levels_and_a_digit() {
        let digits = Digits::embedded();
        let count = |digit: u32| digits.labels.iter().filter(|label| **label == digit).count();
        // As listed in the description that the repository keeps beside the file.
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(count), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let levels: BTreeSet<i32> = digits.images.iter().flatten().map(|pixel| ((pixel + 1.0) * 8.0) as i32).collect();
        assert_eq!(levels, (0..=16).collect());
    }

    #[test]
    fn all_digits_are_used_and_each_for_one_purpose() {
        let data = quickstart_data(Seed(1)).unwrap();
        assert_eq!(data.pretrain.len() + data.train.len() + data.test.len() / 6, 1797);
        assert_eq!(data.test.len() % 6, 0);
        let of = |dataset: &Dataset| images(dataset.batch(&rows(dataset))).into_iter().collect::<BTreeSet<_>>();
        let (pretrain, train, test) = (of(&data.pretrain), of(&data.train), of(&data.test));
        // No two of the 1,797 images are equal, so that one found twice would have been used twice.
        assert!(pretrain.is_disjoint(&train) && pretrain.is_disjoint(&test) && train.is_disjoint(&test));
    }

    #[test]
    fn each_client_sees_one_domain_and_enough_of_it() {
        let data = quickstart_data(Seed(2)).unwrap();
        assert_eq!(data.clients.concat(), rows(&data.train));
        assert_eq!(data.client_names, data.train.groups().unwrap().names());
        for (client, held) in (0..).zip(&data.clients) {
            assert!(held.len() >= SMALLEST_CLIENT);
            assert!(held.iter().all(|row| data.train.groups().unwrap().of_example()[*row as usize] == client));
        }
    }

    #[test]
    fn the_seed_decides_everything() {
        let data = quickstart_data(Seed(3)).unwrap();
        assert_eq!(data, quickstart_data(Seed(3)).unwrap());
        assert_ne!(data, quickstart_data(Seed(4)).unwrap());
    }

    #[test]
    fn a_hundred_seeds_can_be_divided() {
        assert!((0..100).all(|seed| quickstart_data(Seed(seed)).is_ok()));
    }
}
