//! Answers for people and for machines.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

/// Version of the JSON envelope.
const SCHEMA_VERSION: &str = "1";

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object with a version, a status, an exit code, and data or an error
    Json,
}

/// What a command has to say.
#[derive(Debug)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For machines.
    pub data: Value,
    /// 0, or what else the program's exit codes say of an answer.
    pub exit_code: u8,
}

impl Answer {
    /// A successful answer.
    #[must_use]
    pub fn new(text: String, data: Value) -> Self {
        Self { text, data, exit_code: 0 }
    }

    /// Writes the answer to standard output.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&self, format: Format) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match format {
            Format::Text => writeln!(out, "{}", self.text.trim_end()),
            Format::Json => {
                let envelope = json!({
                    "schema_version": SCHEMA_VERSION,
                    "status": "ok",
                    "exit_code": self.exit_code,
                    "data": self.data,
                });
                writeln!(out, "{envelope}")
            }
        }
    }
}

/// Writes an error: to standard error for people, as an envelope to standard output for machines.
///
/// # Errors
/// The stream cannot be written.
pub fn print_error(error: &(dyn std::error::Error + 'static), exit_code: u8, format: Format) -> io::Result<()> {
    let message = chain(error);
    match format {
        Format::Text => writeln!(io::stderr().lock(), "error: {message}"),
        Format::Json => {
            let envelope = json!({
                "schema_version": SCHEMA_VERSION,
                "status": "error",
                "exit_code": exit_code,
                "error": message,
            });
            writeln!(io::stdout().lock(), "{envelope}")
        }
    }
}

/// An error and its causes on one line; a cause that repeats what was said is left out.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        source = cause.source();
    }
    text
}
