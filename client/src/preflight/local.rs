//! What can be checked without the coordinator.

use fedlora_adapter::{ClientId, Digest, Seed};
use fedlora_learner::{LoadedData, choose_device};

use super::{Check, open_state};
use crate::{
    Identity, StateDir,
    cli::chain,
    clock,
    config::JoinConfig,
    identity::{Lifetime, lifetime},
    site::{SharedRows, SiteError},
};

/// Room that a client should have for adapters and updates.
const ENOUGH_BYTES: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const DAY_MS: u64 = 86_400_000;

pub(super) fn device(config: &JoinConfig, checks: &mut Vec<Check>) -> Option<()> {
    match choose_device(&config.device) {
        Ok(chosen) => {
            let next = "run fedlora-client devices to see what this machine has";
            checks.push(match chosen.warning {
                Some(warning) => Check::warning("device", warning, next),
                None => Check::passed("device", chosen.name),
            });
            Some(())
        }
        Err(error) => {
            checks.push(Check::failed("device", chain(&error), "set device to one that fedlora-client devices lists"));
            None
        }
    }
}

pub(super) fn identity(config: &JoinConfig, checks: &mut Vec<Check>) -> Option<Identity> {
    let identity = match Identity::load(&config.identity) {
        Ok(identity) => identity,
        Err(error) => {
            let next = "run fedlora-client enroll, or point `identity` to the folder that it wrote";
            checks.push(Check::failed("identity", chain(&error), next));
            return None;
        }
    };
    let who = format!("{} (client {})", identity.named.name, identity.named.client_id);
    checks.push(Check::passed("identity", who));
    if config.server.tls() {
        checks.push(match lifetime(&identity.certificate_pem) {
            Some(lifetime) => certificate(lifetime, clock::now_ms()),
            None => Check::failed("certificate", "certificate.pem holds no certificate", "enrol again"),
        });
    }
    Some(identity)
}

/// What a certificate's dates say at a time.
fn certificate(lifetime: Lifetime, now_ms: u64) -> Check {
    const NAME: &str = "certificate";
    if now_ms < lifetime.not_before_ms {
        let found = "this client's certificate is not valid yet by this machine's clock";
        return Check::failed(NAME, found, "set this machine's clock right");
    }
    let Some(left_ms) = lifetime.not_after_ms.checked_sub(now_ms) else {
        let days = (now_ms - lifetime.not_after_ms) / DAY_MS;
        let found = format!("this client's certificate ended {days} days ago by this machine's clock");
        return Check::failed(NAME, found, "check this machine's clock, then enrol again with a new token");
    };
    let found = format!("valid for {} more days", left_ms / DAY_MS);
    if now_ms >= lifetime.renew_at_ms() {
        return Check::warning(NAME, found, "fedlora-client join renews it; start it before then");
    }
    Check::passed(NAME, found)
}

pub(super) fn state(config: &JoinConfig, identity: Option<&Identity>, checks: &mut Vec<Check>) -> Option<StateDir> {
    let path = config.state_dir.display();
    let state = match open_state(config, identity?) {
        Ok(state) => state,
        Err(error) => {
            checks.push(Check::failed(
                "state-dir",
                chain(&error),
                "choose another state-dir, or stop the other process",
            ));
            return None;
        }
    };
    checks.push(match free_bytes(config) {
        Some(free) if free < ENOUGH_BYTES => {
            Check::warning("disk", format!("{} MiB free at {path}", free / MIB), "make room: 1 GiB is enough for most")
        }
        Some(free) => Check::passed("disk", format!("{} MiB free at {path}", free / MIB)),
        None => Check::warning("disk", format!("the free space at {path} is not known"), "look at it yourself"),
    });
    Some(state)
}

#[cfg(unix)]
fn free_bytes(config: &JoinConfig) -> Option<u64> {
    let found = rustix::fs::statvfs(&config.state_dir).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &JoinConfig) -> Option<u64> {
    None
}

/// The rows that this client trains on, read with its own labels and as its model reads them; none if they cannot be.
pub(super) fn data(config: &JoinConfig, checks: &mut Vec<Check>) -> Option<Rows> {
    match rows(config) {
        Ok(rows) => {
            let labels = if rows.labels.is_empty() { "none" } else { &rows.labels.join(", ") };
            let found = format!("{} rows to train on, labels {labels}", rows.examples);
            checks.push(match rows.left_out {
                0 => Check::passed("data", found),
                n => Check::warning("data", format!("{found}; {n} rows left out"), "raise data.max-length to use them"),
            });
            Some(rows)
        }
        Err(error) => {
            checks.push(Check::failed("data", chain(&error), "correct the file, or the keys of [data] and [model]"));
            None
        }
    }
}

fn rows(config: &JoinConfig) -> Result<Rows, SiteError> {
    let site = &config.site;
    let preprocessor = site.model.locate()?.preprocessor()?;
    let labels = LoadedData::labels_of(&site.data, &preprocessor)?;
    let share = SharedRows::read(site, &preprocessor, Seed(0), ClientId(0), &labels)?;
    let (examples, left_out) = (share.rows.len() as u64, share.data().left_out());
    share.prepare(&preprocessor, site.data.max_length)?;
    Ok(Rows { examples, labels, left_out })
}

/// What a site's data look like.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) examples: u64,
    /// None for a language model.
    pub(super) labels: Vec<String>,
    /// Rows whose prompts leave no room for a response.
    pub(super) left_out: usize,
}

pub(super) fn model(config: &JoinConfig, checks: &mut Vec<Check>) -> Option<Digest> {
    let model = &config.site.model;
    match model.locate().and_then(|base| base.digest()) {
        Ok(digest) => {
            checks.push(Check::passed("model", format!("{} is {digest}", model.path.display())));
            Some(digest)
        }
        Err(error) => {
            checks.push(Check::failed(
                "model",
                chain(&error),
                "point model.path to the Hugging Face directory, or name the model on the Hub",
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn dates_of_a_certificate_are_told_in_days() {
        let lifetime = Lifetime { not_before_ms: 10 * DAY_MS, not_after_ms: 40 * DAY_MS };
        let at = |days: u64| certificate(lifetime, days * DAY_MS);
        assert_eq!(at(9).outcome, Outcome::Failed);
        assert!(at(9).next.contains("clock"));
        assert_eq!((at(20).outcome, at(20).found.as_str()), (Outcome::Passed, "valid for 20 more days"));
        assert_eq!(at(35).outcome, Outcome::Warning);
        let ended = at(42);
        assert!(ended.outcome == Outcome::Failed && ended.found.contains("ended 2 days ago"), "{ended:?}");
    }
}
