//! The three evaluations as rows of one table, so that every report shows all of them in the same words and order.

use fedlora_learner::Evaluation;

use super::{
    RunRecord,
    comparison::{ComparisonRow, RowTails},
    format,
};
use crate::metrics::{Evaluations, RoundMetrics, Summary, SummaryTails, Tail};

/// How to read the three evaluations; the same words in every report.
const HOW_TO_READ: &str = "The global model is what the server holds, tested on examples of all kinds; a \
    client's personal model is what that client would use, that is, the global model with whatever the client keeps \
    to itself. \"Own\" tests a personal model on held-out examples like those that its client trains on, \"global\" on \
    the examples of everyone, so models that are good on their own and bad on the global examples mean that clients \
    learnt their own task and not the common one.";

/// What perplexity is.
const PERPLEXITY: &str = " Perplexity is exp of the mean loss of a predicted token: the smaller, the better.";

/// What exact match is.
const EXACT_MATCH: &str = " Exact match is the share of questions to which the model itself wrote the right answer.";

/// What "best" is worth.
pub(super) const BEST_IS_CHOSEN: &str =
    "Best rounds were chosen by looking at the test set: an optimistic bound, not a result.";

/// What a dash means.
pub(super) const ABSENT: &str = "-  not measured; methods that share only a part of the adapter have no global model.";

/// What a dagger means.
pub(super) const UNTRAINED: &str =
    "†  the global model did not change in training: this is the model that everyone started with.";

/// One of the three evaluations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    /// Its name in files.
    pub(super) key: &'static str,
    /// Its name for people.
    pub(super) title: &'static str,
    /// The same in two short lines.
    pub(super) head: [&'static str; 2],
    /// Its value in a round.
    pub(super) of: fn(&Evaluations) -> Option<&Evaluation>,
    /// Its course over a run.
    pub(super) tail: fn(&SummaryTails) -> Option<&Tail>,
}

/// All three, in the order of every table.
pub(super) const MEASURES: [Measure; 3] = [
    Measure {
        key: "global",
        title: "global model, global test set",
        head: ["", "global"],
        of: |evaluations| evaluations.global.as_ref(),
        tail: |accuracy| accuracy.global.as_ref(),
    },
    Measure {
        key: "personal_own",
        title: "personal models, own test splits",
        head: ["personal", "own"],
        of: |evaluations| evaluations.personal_own.as_ref(),
        tail: |accuracy| accuracy.personal_own.as_ref(),
    },
    Measure {
        key: "personal_global",
        title: "personal models, global test set",
        head: ["personal", "global"],
        of: |evaluations| evaluations.personal_global.as_ref(),
        tail: |accuracy| accuracy.personal_global.as_ref(),
    },
];

/// The figure that says how good models are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Score {
    /// Share of predictions that are right.
    Accuracy,
    /// `exp` of a language model's loss for each predicted token.
    Perplexity,
    /// Share of questions that a language model answers rightly; shown beside perplexity.
    ExactMatch,
}

impl Score {
    /// All of them, in the order of tables.
    pub(super) const ALL: [Self; 3] = [Self::Accuracy, Self::Perplexity, Self::ExactMatch];

    /// Exact match where some evaluation has it.
    pub(super) fn answers<'a>(rounds: impl IntoIterator<Item = &'a RoundMetrics>) -> Option<Self> {
        let evaluations = rounds.into_iter().map(|metrics| &metrics.evaluations);
        let mut found = evaluations.flat_map(|all| MEASURES.map(|measure| (measure.of)(all))).flatten();
        found.any(|found| found.exact_match.is_some()).then_some(Self::ExactMatch)
    }

    /// Perplexity where every evaluation has one, as those of language models have.
    pub(super) fn of<'a>(rounds: impl IntoIterator<Item = &'a RoundMetrics>) -> Self {
        let evaluations = rounds.into_iter().map(|metrics| &metrics.evaluations);
        let found = evaluations.flat_map(|all| MEASURES.map(|measure| (measure.of)(all))).flatten();
        Self::all_have(found.map(|found| found.perplexity.is_some()))
    }

    /// As [`Score::of`], of a summary.
    pub(super) fn of_summary(summary: &Summary) -> Self {
        Self::all_have([summary.perplexity.is_some()])
    }

    /// As [`Score::of`], of rows that were measured at all.
    pub(super) fn of_rows(rows: &[ComparisonRow]) -> Self {
        let measured = rows.iter().filter(|row| row.accuracy.all().iter().any(Option::is_some));
        Self::all_have(measured.map(|row| row.perplexity.is_some()))
    }

    fn all_have(perplexity: impl IntoIterator<Item = bool>) -> Self {
        let mut found = perplexity.into_iter().peekable();
        if found.peek().is_some() && found.all(|has| has) { Self::Perplexity } else { Self::Accuracy }
    }

    /// Its name in files.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Perplexity => "perplexity",
            Self::ExactMatch => "exact_match",
        }
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Perplexity => "perplexity",
            Self::ExactMatch => "exact match",
        }
    }

    /// Its name at the beginning of a sentence.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Accuracy => "Accuracy",
            Self::Perplexity => "Perplexity",
            Self::ExactMatch => "Exact match",
        }
    }

    /// How to read a report, with or without answers.
    pub(super) fn how_to_read(self, answers: bool) -> String {
        let perplexity = if self == Self::Perplexity { PERPLEXITY } else { "" };
        format!("{HOW_TO_READ}{perplexity}{}", if answers { EXACT_MATCH } else { "" })
    }

    /// Its value in an evaluation.
    pub(super) fn value(self, found: &Evaluation) -> Option<f64> {
        match self {
            Self::Accuracy => Some(found.accuracy),
            Self::Perplexity => found.perplexity,
            Self::ExactMatch => found.exact_match,
        }
    }

    /// Its course over a run, in the order of [`MEASURES`].
    pub(super) fn tails(self, summary: &Summary) -> [Option<&Tail>; 3] {
        let tails = match self {
            Self::Accuracy => Some(&summary.accuracy),
            Self::Perplexity => summary.perplexity.as_ref(),
            Self::ExactMatch => summary.exact_match.as_ref(),
        };
        MEASURES.map(|measure| tails.and_then(measure.tail))
    }

    /// Its course over the runs of a row.
    pub(super) fn row(self, row: &ComparisonRow) -> Option<&RowTails> {
        match self {
            Self::Accuracy => Some(&row.accuracy),
            Self::Perplexity => row.perplexity.as_ref(),
            Self::ExactMatch => row.exact_match.as_ref(),
        }
    }

    /// A value for people.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Perplexity if value >= 1e4 => format::significant(value),
            Self::Perplexity => format!("{value:.2}"),
            Self::Accuracy | Self::ExactMatch => format::fixed(value),
        }
    }
}

/// Whether training never changed the global model: in every evaluated round it scored exactly as before the first.
///
/// So it is with methods that combine only one factor, where the server's product of factors stays zero. Told from the
/// data alone; loss is compared too, because accuracy may stay the same by chance.
pub(super) fn global_untrained(record: &RunRecord) -> bool {
    let score = |metrics: &RoundMetrics| {
        metrics.evaluations.global.as_ref().map(|found| (found.accuracy.to_bits(), found.loss.to_bits()))
    };
    let mut scores = record.rounds.iter().filter_map(|metrics| score(metrics).map(|score| (metrics.round, score)));
    let Some((0, first)) = scores.next() else { return false };
    let mut later = scores.peekable();
    later.peek().is_some() && later.all(|(_, score)| score == first)
}
