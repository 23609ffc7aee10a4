//! The part of a step's examples that goes through the model in one pass (gradient accumulation).

use fedlora_adapter::ClientId;

use crate::{Batch, Dataset};

/// One example of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) row: u32,
    /// Client and stream of its dropout masks.
    pub(super) mask: (ClientId, u64),
}

/// Examples of one pass.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) batch: Batch,
    /// Number of examples of each member, perhaps none.
    pub(super) examples: Vec<usize>,
    /// Client and stream of every example's dropout masks.
    pub(super) masks: Vec<(ClientId, u64)>,
    /// Number of predictions of each member.
    pub(super) predictions: Vec<usize>,
}

impl Part {
    /// The parts of a step of which `places` are every member's examples, where at most `most` of one member's go into
    /// the same part: a member's parts are the same whoever trains beside it.
    pub(super) fn all(places: &[Vec<Place>], most: usize, dataset: &Dataset) -> Vec<Self> {
        let longest = places.iter().map(Vec::len).max().unwrap_or(0);
        let part = |index: usize| Self::new(places.iter().map(|own| nth(own, most, index)), dataset);
        (0..longest.div_ceil(most)).map(part).collect()
    }

    fn new<'a>(members: impl Iterator<Item = &'a [Place]> + Clone, dataset: &Dataset) -> Self {
        let examples: Vec<usize> = members.clone().map(<[Place]>::len).collect();
        let rows: Vec<u32> = members.clone().flatten().map(|place| place.row).collect();
        let batch = dataset.batch(&rows);
        let predictions = batch.targets.predictions(&examples);
        Self { batch, examples, masks: members.flatten().map(|place| place.mask).collect(), predictions }
    }
}

/// The places of one pass, none behind the last.
fn nth(places: &[Place], most: usize, index: usize) -> &[Place] {
    places.chunks(most).nth(index).unwrap_or_default()
}
