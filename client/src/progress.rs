//! One line on standard error that says what the client is doing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Says what the client is doing; clones write the same line.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    warns: bool,
}

impl Progress {
    /// A line on standard error, if that is a terminal.
    #[must_use]
    pub fn line() -> Self {
        let bar = ProgressBar::new_spinner();
        // An invalid template would be a mistake in this line; the plain style still shows the message.
        let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, warns: true }
    }

    /// Says nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), warns: false }
    }

    /// Replaces what the line says.
    pub fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// Leaves a line behind.
    pub fn note(&self, text: &str) {
        self.bar.println(text);
    }

    /// Says what whoever started the client should know, also where standard error is no terminal.
    pub fn warn(&self, text: &str) {
        if self.warns {
            self.bar.suspend(|| eprintln!("warning: {text}"));
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
