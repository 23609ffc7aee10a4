//! The three evaluations as rows of one table, so that every report shows all of them in the same words and order.

use fedlora_learner::Evaluation;

use super::RunRecord;
use crate::metrics::{Evaluations, RoundMetrics, SummaryAccuracy, Tail};

/// How to read the three evaluations; the same words in every report.
pub(super) const HOW_TO_READ: &str = "The global model is what the server holds, tested on examples of all kinds; a \
    client's personal model is what that client would use, that is, the global model with whatever the client keeps \
    to itself. \"Own\" tests a personal model on held-out examples like those that its client trains on, \"global\" on \
    the examples of everyone, so a high own and a low global accuracy mean that clients learnt their own task and not \
    the common one.";

/// What "best" is worth.
pub(super) const BEST_IS_CHOSEN: &str =
    "Best rounds were chosen by looking at the test set: an upper bound, not a result.";

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
    pub(super) tail: fn(&SummaryAccuracy) -> Option<&Tail>,
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
