//! Who watches a run: a progress bar, a test, or nobody.

use std::fmt;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::metrics::RoundMetrics;

/// Told what a run is doing; must not change it.
pub trait Observer: fmt::Debug + Send {
    /// The run has so many rounds, of which some are done already.
    fn begin(&mut self, num_rounds: u64, done: u64);
    /// A round was opened for so many clients.
    fn round(&mut self, round: u64, clients: u64);
    /// A client finished its training.
    fn client(&mut self, client: u64);
    /// A round was recorded.
    fn done(&mut self, metrics: &RoundMetrics);
    /// Something that whoever started the run should know.
    fn warn(&mut self, _text: &str) {}
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Observer for Unwatched {
    fn begin(&mut self, _: u64, _: u64) {}
    fn round(&mut self, _: u64, _: u64) {}
    fn client(&mut self, _: u64) {}
    fn done(&mut self, _: &RoundMetrics) {}
}

/// A bar on standard error, silent when that is not a terminal.
#[derive(Debug)]
pub struct Bar {
    progress: ProgressBar,
    label: String,
    score: String,
    clients: (u64, u64),
    round: u64,
}

impl Bar {
    /// A bar named after what it shows.
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let template = "{prefix:<22} {bar:24} round {msg}  eta {eta}";
        // An invalid template would be a mistake in the line above; the plain style still shows progress.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        progress.set_style(style.progress_chars("━╸─"));
        Self { progress, label: label.into(), score: String::new(), clients: (0, 0), round: 0 }
    }

    fn show(&self, num_rounds: u64) {
        let (done, all) = self.clients;
        self.progress.set_message(format!("{}/{num_rounds} · client {done}/{all}{}", self.round, self.score));
    }

    fn rounds(&self) -> u64 {
        self.progress.length().unwrap_or_default() / SCALE
    }
}

/// Bar positions per round, so that the bar moves within a round too.
const SCALE: u64 = 1000;

impl Observer for Bar {
    fn begin(&mut self, num_rounds: u64, done: u64) {
        self.progress.set_prefix(self.label.clone());
        self.progress.set_length(num_rounds * SCALE);
        self.progress.set_position(done.saturating_sub(1) * SCALE);
        self.progress.reset_eta();
    }

    fn warn(&mut self, text: &str) {
        self.progress.suspend(|| eprintln!("warning: {text}"));
    }

    fn round(&mut self, round: u64, clients: u64) {
        (self.round, self.clients) = (round, (0, clients));
        self.show(self.rounds());
    }

    fn client(&mut self, _: u64) {
        self.clients.0 += 1;
        let (done, all) = self.clients;
        self.progress.set_position((self.round - 1) * SCALE + done * SCALE / all.max(1));
        self.show(self.rounds());
    }

    fn done(&mut self, metrics: &RoundMetrics) {
        let shown = metrics.evaluations.personal_own.as_ref().or(metrics.evaluations.global.as_ref());
        if let Some(evaluation) = shown {
            self.score = match (evaluation.exact_match, evaluation.perplexity) {
                (Some(share), _) => format!(" · exact match {share:.3}"),
                (None, Some(perplexity)) => format!(" · perplexity {perplexity:.2}"),
                (None, None) => format!(" · accuracy {:.3}", evaluation.accuracy),
            };
        }
        self.progress.set_position(metrics.round * SCALE);
        if metrics.round == self.rounds() {
            self.progress.finish_and_clear();
        }
    }
}
