//! Examples in memory, ready to be batched.

use super::{DataError, Groups, Question, Sequence, pixels::Pixels};
use crate::{
    batch::{Batch, Inputs, NextTokens, Targets, Tokens},
    images::Levels,
};

/// Images have a length in pixels, of which a model makes some dozen tokens.
const TOKENS_PER_IMAGE: usize = 32;

#[derive(Debug, Clone, PartialEq)]
enum Examples {
    /// Example `i` is the tokens `ends[i - 1]..ends[i]`, where `ends[-1]` is 0.
    Tokens { tokens: Tokens, ends: Vec<usize> },
    /// Example `i` is `pixels[i * size..(i + 1) * size]`.
    Images { pixels: Vec<f32>, size: usize },
    /// Images as levels, a quarter of the memory.
    Levels(Pixels),
}

/// What examples ask for.
#[derive(Debug, Clone, PartialEq)]
enum Answers {
    /// One label each.
    Labels { labels: Vec<u32>, names: Vec<String> },
    /// The tokens of each behind so many given ones, and what is asked in it, if anything.
    NextTokens { given: Vec<usize>, questions: Vec<Option<Question>> },
}

/// Examples with what they ask for, a label or their next tokens, and, where the data has them, natural clients.
///
/// Every example has at least one token or pixel and something to predict, and every label and group has a name. Row numbers are those of the
/// order in which examples were given; a row beyond the last one is a mistake of the caller's and panics.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    examples: Examples,
    answers: Answers,
    groups: Option<Groups>,
    users: Option<Groups>,
}

impl Dataset {
    /// Token sequences of any lengths, without padding.
    ///
    /// # Errors
    ///
    /// Where a sequence is empty, the counts differ or a label has no name.
    pub fn tokens(sequences: &[Tokens], labels: Vec<u32>, label_names: Vec<String>) -> Result<Self, DataError> {
        check_length("sequences", labels.len(), sequences.len())?;
        Self::labelled(joined(sequences)?, labels, label_names)
    }

    /// Examples of a causal language model.
    ///
    /// # Errors
    ///
    /// Where a sequence has no token that is given, or none to predict.
    pub fn causal(sequences: &[Sequence]) -> Result<Self, DataError> {
        let predicts = |sequence: &Sequence| (1..sequence.ids.len()).contains(&sequence.given);
        if let Some(example) = sequences.iter().position(|sequence| !predicts(sequence)) {
            return Err(DataError::EmptyExample { example });
        }
        let tokens: Vec<Tokens> = sequences.iter().map(|sequence| sequence.ids.clone().into()).collect();
        let given = sequences.iter().map(|sequence| sequence.given).collect();
        let answers = Answers::NextTokens { given, questions: vec![None; sequences.len()] };
        Ok(Self { examples: joined(&tokens)?, answers, groups: None, users: None })
    }

    /// The same examples of a causal language model with what is asked in each; of others nothing is asked.
    ///
    /// # Errors
    ///
    /// Where the counts differ or a prompt is empty or not within its sequence.
    pub fn with_questions(mut self, asked: Vec<Option<Question>>) -> Result<Self, DataError> {
        check_length("questions", self.len(), asked.len())?;
        let fits = |(row, question): (u32, &Option<Question>)| {
            question.as_ref().is_none_or(|question| (1..self.length(row)).contains(&question.prompt))
        };
        if let Some(example) = (0..).zip(&asked).position(|each| !fits(each)) {
            return Err(DataError::EmptyExample { example });
        }
        if let Answers::NextTokens { questions, .. } = &mut self.answers {
            *questions = asked;
        }
        Ok(self)
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
        Self::labelled(Examples::Images { pixels, size }, labels, label_names)
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
        Self::labelled(Examples::Levels(Pixels::new(&images, size, values)), labels, label_names)
    }

    fn labelled(examples: Examples, labels: Vec<u32>, names: Vec<String>) -> Result<Self, DataError> {
        check_named("label", &labels, names.len())?;
        Ok(Self { examples, answers: Answers::Labels { labels, names }, groups: None, users: None })
    }

    /// The same examples with their natural clients.
    ///
    /// # Errors
    ///
    /// Where the counts differ or a group has no name.
    pub fn with_groups(self, groups: Groups) -> Result<Self, DataError> {
        check_length("groups", self.len(), groups.of_example().len())?;
        check_named("group", groups.of_example(), groups.names().len())?;
        Ok(Self { groups: Some(groups), ..self })
    }

    /// The same examples with the users whom they are about.
    ///
    /// # Errors
    ///
    /// Where the counts differ or a user has no name.
    pub fn with_users(self, users: Groups) -> Result<Self, DataError> {
        check_length("users", self.len(), users.of_example().len())?;
        check_named("user", users.of_example(), users.names().len())?;
        Ok(Self { users: Some(users), ..self })
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.answers {
            Answers::Labels { labels, .. } => labels.len(),
            Answers::NextTokens { given, .. } => given.len(),
        }
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every example's label; none at all where next tokens are asked for.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        match &self.answers {
            Answers::Labels { labels, .. } => labels,
            Answers::NextTokens { .. } => &[],
        }
    }

    /// Names of the labels, in the order of their numbers; none where next tokens are asked for.
    #[must_use]
    pub fn label_names(&self) -> &[String] {
        match &self.answers {
            Answers::Labels { names, .. } => names,
            Answers::NextTokens { .. } => &[],
        }
    }

    /// The natural clients, if the data has them.
    #[must_use]
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// The users whom the examples are about, if the data names them.
    #[must_use]
    pub fn users(&self) -> Option<&Groups> {
        self.users.as_ref()
    }

    /// The tokens of the prompt in an example, and what is to follow it; none where nothing is asked.
    #[must_use]
    pub fn question(&self, row: u32) -> Option<(&[u32], &str)> {
        let (Answers::NextTokens { questions, .. }, Examples::Tokens { tokens, ends }) =
            (&self.answers, &self.examples)
        else {
            return None;
        };
        let question = questions[row as usize].as_ref()?;
        Some((&tokens.ids[token_range(ends, row)][..question.prompt], &question.response))
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

    /// About how many tokens a model makes of an example: for an image some dozen patches.
    #[must_use]
    pub(crate) fn token_count(&self, row: u32) -> usize {
        if matches!(self.examples, Examples::Tokens { .. }) { self.length(row) } else { TOKENS_PER_IMAGE }
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
        Batch { inputs, targets: self.targets(rows) }
    }

    fn targets(&self, rows: &[u32]) -> Targets {
        match (&self.answers, &self.examples) {
            (Answers::Labels { labels, .. }, _) => {
                Targets::Labels(rows.iter().map(|row| labels[*row as usize]).collect())
            }
            (Answers::NextTokens { given, .. }, Examples::Tokens { tokens, ends }) => {
                let mut next = NextTokens::default();
                let mut start = 0;
                for row in rows {
                    let own = &tokens.ids[token_range(ends, *row)];
                    let given = given[*row as usize];
                    next.rows.extend((given - 1..own.len() - 1).map(|place| (start + place) as u32));
                    next.ids.extend_from_slice(&own[given..]);
                    next.counts.push(own.len() - given);
                    start += own.len();
                }
                Targets::Tokens(next)
            }
            // `causal` is the only way to ask for next tokens.
            (Answers::NextTokens { .. }, Examples::Images { .. } | Examples::Levels(_)) => {
                Targets::Tokens(NextTokens::default())
            }
        }
    }
}

/// Sequences one after the other, none empty.
fn joined(sequences: &[Tokens]) -> Result<Examples, DataError> {
    if let Some(example) = sequences.iter().position(|sequence| sequence.ids.is_empty()) {
        return Err(DataError::EmptyExample { example });
    }
    let mut tokens = Tokens::default();
    let mut ends = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        check_length("segments", sequence.ids.len(), sequence.segments.len())?;
        tokens.ids.extend_from_slice(&sequence.ids);
        tokens.segments.extend_from_slice(&sequence.segments);
        ends.push(tokens.ids.len());
    }
    Ok(Examples::Tokens { tokens, ends })
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
mod tests;
