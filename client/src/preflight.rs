//! Everything that can keep a client from taking part, looked at one by one before it tries.
//!
//! Each check says in plain words what it found and, where that is not good enough, what to do next. A check that
//! makes no sense after an earlier failure is left out.

mod local;
mod network;

use std::fmt::Write;

use serde::Serialize;
use tokio::runtime::Builder;

use crate::{Identity, StateDir, StateError, config::JoinConfig};

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// It works, but someone should look.
    Warning,
    /// The client cannot take part like this.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What it came to.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do; empty for what passed.
    pub next: String,
}

impl Check {
    /// As it should be.
    fn passed(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Passed, found: found.into(), next: String::new() }
    }

    /// It works, but someone should look.
    fn warning(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, found: found.into(), next: next.into() }
    }

    /// The client cannot take part like this.
    fn failed(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failed, found: found.into(), next: next.into() }
    }
}

/// All checks of a configuration that could be read.
#[must_use]
pub fn run(config: &JoinConfig) -> Vec<Check> {
    let mut checks = vec![Check::passed("configuration", format!("joins {}", config.server))];
    let device = local::device(config, &mut checks);
    let identity = local::identity(config, &mut checks);
    let state = local::state(config, identity.as_ref(), &mut checks);
    let examples = local::data(config, &mut checks);
    let model = device.and_then(|()| local::model(config, &mut checks));
    let Some(identity) = identity else { return checks };
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return checks };
    let free = state.is_some();
    runtime.block_on(network::check(config, &identity, model, examples, free, &mut checks));
    checks
}

/// Opens a client's state directory.
pub(crate) fn open_state(config: &JoinConfig, identity: &Identity) -> Result<StateDir, StateError> {
    let address = config.server.to_string();
    let coordinator = identity.ca_pem.as_deref().filter(|_| config.server.tls()).unwrap_or(&address);
    StateDir::open(&config.state_dir, coordinator.as_bytes())
}

/// Checks as lines for people.
#[must_use]
pub fn to_text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = match check.outcome {
            Outcome::Passed => "ok  ",
            Outcome::Warning => "warn",
            Outcome::Failed => "FAIL",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark}  {:<14} {}", check.name, check.found);
        if !check.next.is_empty() {
            let _ = writeln!(text, "{:<20} next: {}", "", check.next);
        }
    }
    text
}
