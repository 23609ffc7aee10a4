//! Answers for people and for machines.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Failure;

/// Version of the JSON envelope.
const SCHEMA_VERSION: &str = "1";

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// JSON objects with a version, a status, an exit code, and data or an error
    Json,
}

/// What a command has to say.
#[derive(Debug)]
pub struct Answer {
    /// For people; nothing is written for empty text.
    pub text: String,
    /// For machines; nothing is written for null.
    pub data: Value,
    /// 0, or why what was shown is not good.
    pub exit_code: u8,
}

impl Answer {
    /// A successful answer.
    #[must_use]
    pub fn new(text: impl Into<String>, data: Value) -> Self {
        Self { text: text.into(), data, exit_code: 0 }
    }

    /// The end of a command that has said everything already.
    #[must_use]
    pub fn said() -> Self {
        Self::new(String::new(), Value::Null)
    }

    /// Writes the answer to standard output.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&self, format: Format) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match format {
            Format::Text if self.text.is_empty() => Ok(()),
            Format::Text => writeln!(out, "{}", self.text.trim_end()),
            Format::Json if self.data.is_null() => Ok(()),
            Format::Json => writeln!(out, "{}", envelope(self.exit_code, &self.data)),
        }
    }
}

/// Writes one of many answers at once, so that a reader at the other end of a pipe sees it now.
pub(super) fn say(answer: &Answer, format: Format) -> Result<(), Failure> {
    let written = answer.print(format).and_then(|()| io::stdout().flush());
    written.map_err(|error| Failure::output(&error))
}

fn envelope(exit_code: u8, data: &Value) -> Value {
    json!({ "schema_version": SCHEMA_VERSION, "status": "ok", "exit_code": exit_code, "data": data })
}

/// Writes a failure: to standard error for people, as an envelope to standard output for machines.
///
/// # Errors
/// The stream cannot be written.
pub fn print_failure(failure: &Failure, format: Format) -> io::Result<()> {
    match format {
        Format::Text => writeln!(io::stderr().lock(), "error: {failure}"),
        Format::Json => {
            let mut envelope = json!({
                "schema_version": SCHEMA_VERSION,
                "status": "error",
                "exit_code": failure.exit_code(),
                "error": failure.to_string(),
            });
            if let Some(reason) = failure.reason() {
                envelope["reason"] = json!(reason);
            }
            writeln!(io::stdout().lock(), "{envelope}")
        }
    }
}
