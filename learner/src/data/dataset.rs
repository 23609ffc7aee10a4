//! Labelled examples in memory, ready to be batched.

use std::collections::BTreeMap;

use super::{DataError, pixels::Pixels};
use crate::{
    batch::{Batch, Inputs, Targets, Tokens},
    images::Levels,
};

/// Which natural client every example belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    names: Vec<String>,
    of_example: Vec<u32>,
}

impl Groups {
    /// Groups by number, one for each example.
    #[must_use]
    pub fn new(names: Vec<String>, of_example: Vec<u32>) -> Self {
        Self { names, of_example }
    }

    /// Groups by name; `None` if some example has none or one that is not in `names`.
    pub(super) fn of<'a>(examples: impl Iterator<Item = Option<&'a str>>, names: &[String]) -> Option<Self> {
        let by_name: BTreeMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
        let of_example = examples.map(|name| by_name.get(name?).copied()).collect::<Option<_>>()?;
        Some(Self { names: names.to_vec(), of_example })
    }

    /// Names, in the order of the groups' numbers.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Every example's group.
    #[must_use]
    pub fn of_example(&self) -> &[u32] {
        &self.of_example
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Examples {
    /// Example `i` is the tokens `ends[i - 1]..ends[i]`, where `ends[-1]` is 0.
    Tokens { tokens: Tokens, ends: Vec<usize> },
    /// Example `i` is `pixels[i * size..(i + 1) * size]`.
    Images { pixels: Vec<f32>, size: usize },
    /// Images as levels, a quarter of the memory.
    Levels(Pixels),
}

/// Examples with labels and, where the data has them, natural clients.
///
/// Every example has at least one token or pixel, and every label and group has a name. Row numbers are those of the
/// order in which examples were given; a row beyond the last one is a mistake of the caller's and panics.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    examples: Examples,
    labels: Vec<u32>,
    label_names: Vec<String>,
    groups: Option<Groups>,
}

impl Dataset {
    /// Token sequences of any lengths, without padding.
    ///
    /// # Errors
    ///
    /// Where a sequence is empty, the counts differ or a label has no name.
    pub fn tokens(sequences: &[Tokens], labels: Vec<u32>, label_names: Vec<String>) -> Result<Self, DataError> {
        if let Some(example) = sequences.iter().position(|sequence| sequence.ids.is_empty()) {
            return Err(DataError::EmptyExample { example });
        }
        check_length("sequences", labels.len(), sequences.len())?;
        let mut tokens = Tokens::default();
        let mut ends = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            check_length("segments", sequence.ids.len(), sequence.segments.len())?;
            tokens.ids.extend_from_slice(&sequence.ids);
            tokens.segments.extend_from_slice(&sequence.segments);
            ends.push(tokens.ids.len());
        }
        Self::new(Examples::Tokens { tokens, ends }, labels, label_names)
    }

    /// Images of `size` values each, one after the other.
    ///
    /// # Errors
    ///
    /// Where `size` is 0, the counts differ or a label has no name.
    pub fn images(
        pixels: Vec<f32>,
        size: usize,
        labels: Vec<u32>,
        label_names: Vec<String>,
    ) -> Result<Self, DataError> {
        if size == 0 {
            return Err(DataError::EmptyExample { example: 0 });
        }
        check_length("pixels", labels.len() * size, pixels.len())?;
        Self::new(Examples::Images { pixels, size }, labels, label_names)
    }

    /// Images as levels, `[channels, height, width]` each and all of one size; `values` holds for each channel what its
    /// levels mean.
    ///
    /// # Errors
    ///
    /// Where an image is empty or of another size than the first, the counts differ or a label has no name.
    pub(crate) fn levels(
        images: Vec<Vec<u8>>,
        values: Vec<Levels>,
        labels: Vec<u32>,
        label_names: Vec<String>,
    ) -> Result<Self, DataError> {
        check_length("images", labels.len(), images.len())?;
        let size = images.first().map_or(0, Vec::len);
        if let Some(example) = images.iter().position(Vec::is_empty) {
            return Err(DataError::EmptyExample { example });
        }
        images.iter().try_for_each(|image| check_length("pixels", size, image.len()))?;
        Self::new(Examples::Levels(Pixels::new(&images, size, values)), labels, label_names)
    }

    fn new(examples: Examples, labels: Vec<u32>, label_names: Vec<String>) -> Result<Self, DataError> {
        check_named("label", &labels, label_names.len())?;
        Ok(Self { examples, labels, label_names, groups: None })
    }

    /// The same examples with their natural clients.
    ///
    /// # Errors
    ///
    /// Where the counts differ or a group has no name.
    pub fn with_groups(self, groups: Groups) -> Result<Self, DataError> {
        check_length("groups", self.len(), groups.of_example.len())?;
        check_named("group", &groups.of_example, groups.names.len())?;
        Ok(Self { groups: Some(groups), ..self })
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// An example's label.
    #[must_use]
    pub fn label(&self, row: u32) -> u32 {
        self.labels[row as usize]
    }

    /// Every example's label.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Names of the labels, in the order of their numbers.
    #[must_use]
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }

    /// The natural clients, if the data has them.
    #[must_use]
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// An example's number of tokens, or of values of an image.
    #[must_use]
    pub fn length(&self, row: u32) -> usize {
        match &self.examples {
            Examples::Tokens { ends, .. } => token_range(ends, row).len(),
            Examples::Images { size, .. } => *size,
            Examples::Levels(pixels) => pixels.size(),
        }
    }

    /// The examples of some rows, in that order.
    #[must_use]
    pub fn batch(&self, rows: &[u32]) -> Batch {
        let inputs = match &self.examples {
            Examples::Tokens { tokens, ends } => {
                let ranges = || rows.iter().map(|row| token_range(ends, *row));
                let ids = ranges().flat_map(|range| &tokens.ids[range]).copied().collect();
                let segments = ranges().flat_map(|range| &tokens.segments[range]).copied().collect();
                let lengths = ranges().map(|range| range.len()).collect();
                Inputs::Tokens { tokens: Tokens { ids, segments }, lengths }
            }
            Examples::Images { pixels, size } => {
                let image = |row: &u32| &pixels[*row as usize * size..(*row as usize + 1) * size];
                Inputs::Images { pixels: rows.iter().flat_map(image).copied().collect(), count: rows.len() }
            }
            Examples::Levels(pixels) => Inputs::Images { pixels: pixels.values(rows), count: rows.len() },
        };
        Batch { inputs, targets: Targets::Labels(rows.iter().map(|row| self.label(*row)).collect()) }
    }
}

fn token_range(ends: &[usize], row: u32) -> std::ops::Range<usize> {
    let row = row as usize;
    let start = if row == 0 { 0 } else { ends[row - 1] };
    start..ends[row]
}

fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), DataError> {
    if expected == found { Ok(()) } else { Err(DataError::Length { what, expected, found }) }
}

fn check_named(what: &'static str, numbers: &[u32], names: usize) -> Result<(), DataError> {
    match numbers.iter().position(|number| *number as usize >= names) {
        Some(example) => Err(DataError::Unnamed { what, example, found: numbers[example], names }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["no".into(), "yes".into()]
    }

    #[test]
    fn a_batch_holds_the_rows_asked_for_in_the_order_asked() {
        let pair = Tokens { ids: vec![5, 6], segments: vec![0, 1] };
        let sequences = [vec![1, 2, 3].into(), vec![4].into(), pair];
        let dataset = Dataset::tokens(&sequences, vec![0, 1, 0], names()).unwrap();
        let batch = dataset.batch(&[2, 0]);
        let Inputs::Tokens { tokens, lengths } = batch.inputs else { panic!("expected tokens") };
        assert_eq!(tokens, Tokens { ids: vec![5, 6, 1, 2, 3], segments: vec![0, 1, 0, 0, 0] });
        assert_eq!((lengths, batch.targets), (vec![2, 3], Targets::Labels(vec![0, 0])));
        assert_eq!([0, 1, 2].map(|row| dataset.length(row)), [3, 1, 2]);
    }

    #[test]
    fn images_are_cut_by_their_size() {
        let dataset = Dataset::images(vec![0.0, 1.0, 2.0, 3.0], 2, vec![0, 1], names()).unwrap();
        let Inputs::Images { pixels, count } = dataset.batch(&[1]).inputs else { panic!("expected images") };
        assert_eq!((pixels, count), (vec![2.0, 3.0], 1));
    }

    #[test]
    fn examples_and_labels_that_do_not_fit_are_refused() {
        let refuse = |sequences: &[Vec<u32>], labels| {
            let sequences: Vec<Tokens> = sequences.iter().cloned().map(Tokens::from).collect();
            Dataset::tokens(&sequences, labels, names()).unwrap_err().to_string()
        };
        assert_eq!(refuse(&[vec![1], vec![]], vec![0, 0]), "example 1 is empty");
        assert_eq!(refuse(&[vec![1]], vec![0, 0]), "found 1 sequences, expected 2");
        assert_eq!(refuse(&[vec![1]], vec![2]), "example 0 has label 2, but only 2 are named");
        let error = Dataset::images(vec![0.0; 3], 2, vec![0], names()).unwrap_err();
        assert_eq!(error.to_string(), "found 3 pixels, expected 2");
    }
}
