//! Getting an identity, keeping it young, and TLS with the usual mistakes.

use std::{fs, path::Path, sync::Arc};

use fedlora_client::{
    Dialer, Identity, Shown,
    config::{JoinConfig, set},
    identity::{self, lifetime},
    preflight::{self, Outcome},
    renew,
};

use crate::{
    coordinator::Coordinator,
    encrypted::{Authority, Encrypted},
    support::adapter,
};

fn block_on<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads").block_on(work)
}

fn enrol(url: &str, token: &str, folder: &Path, ca_pem: Option<&str>) -> Result<u64, String> {
    let dialer = Dialer::anonymous(&url.parse().expect("an address"), ca_pem).expect("usable");
    let outcome = block_on(identity::enrol(&dialer, token, folder, ca_pem));
    outcome.map(|enrolment| enrolment.named.client_id).map_err(|error| fedlora_client::cli::chain(&error))
}

#[test]
fn a_token_becomes_an_identity_whose_secrets_are_the_owners_alone() {
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    let place = tempfile::tempdir().expect("a temporary directory");
    let folder = place.path().join("identity");
    assert_eq!(enrol(&coordinator.url(), "fl1_good\n", &folder, None), Ok(5));
    let identity = Identity::load(&folder).expect("complete");
    assert_eq!(identity.named.name, "north");
    assert!(!format!("{identity:?}").contains("PRIVATE KEY"));
    assert!(lifetime(&identity.certificate_pem).is_some());
    #[cfg(unix)]
    for secret in ["key.pem", "access-token"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(folder.join(secret)).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let error = enrol(&coordinator.url(), "fl1_good", &folder, None).expect_err("there is an identity");
    assert!(error.contains("holds an identity already"), "{error}");
}

#[test]
fn a_token_that_is_not_good_leaves_no_identity() {
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    let place = tempfile::tempdir().expect("a temporary directory");
    let error = enrol(&coordinator.url(), "fl1_used", place.path(), None).expect_err("used before");
    assert!(error.contains("this token was used before"), "{error}");
    Identity::load(place.path()).expect_err("no identity");
    assert_eq!(enrol(&coordinator.url(), "fl1_good", place.path(), None), Ok(5), "the next try works");
}

#[test]
fn a_certificate_is_renewed_in_place_and_its_key_stays() {
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    let place = tempfile::tempdir().expect("a temporary directory");
    enrol(&coordinator.url(), "fl1_good", place.path(), None).expect("enrolled");
    let read = |name: &str| fs::read_to_string(place.path().join(name)).expect("written");
    let (certificate, key) = (read("certificate.pem"), read("key.pem"));
    let identity = Identity::load(place.path()).expect("complete");
    let shown = Shown::default();
    let server = coordinator.url().parse().expect("an address");
    let dialer = Dialer::new(&server, &identity, &Arc::new(Shown::default())).expect("clear text");
    block_on(renew(&dialer, &identity, &shown)).expect("renewed");
    assert_ne!(read("certificate.pem"), certificate);
    assert_eq!(read("key.pem"), key);
}

/// A configuration with an identity in `place` that trusts `ca_pem`.
fn config(place: &Path, url: &str, ca_pem: &str, authority: &Authority) -> JoinConfig {
    let folder = place.join("identity");
    fs::create_dir_all(&folder).expect("writable");
    let (certificate, key) = authority.client("north");
    for (name, text) in [("certificate.pem", certificate.as_str()), ("key.pem", &key), ("ca.pem", ca_pem)] {
        fs::write(folder.join(name), text).expect("writable");
    }
    fs::write(folder.join("identity.json"), r#"{"client_id": 5, "name": "north"}"#).expect("writable");
    fs::write(place.join("rows.csv"), "text,label\nthe cat,no\na dog,yes\n").expect("writable");
    let mut table = toml::Table::new();
    for (key, value) in [
        ("server", url.to_owned()),
        ("identity", folder.display().to_string()),
        ("state-dir", place.join("state").display().to_string()),
        ("model.path", concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_bert").to_owned()),
        ("data.path", place.join("rows.csv").display().to_string()),
    ] {
        set(&mut table, &format!("{key}={value}")).expect("a key");
    }
    if url.starts_with("http://") {
        set(&mut table, "insecure=true").expect("a key");
    }
    JoinConfig::parse(table).expect("valid")
}

/// What preflight says of the check that failed.
#[track_caller]
fn failure(config: &JoinConfig) -> (&'static str, String) {
    let checks = preflight::run(config);
    let failed = checks.iter().find(|check| check.outcome == Outcome::Failed);
    let failed = failed.unwrap_or_else(|| panic!("nothing failed: {checks:?}"));
    assert!(!failed.next.is_empty());
    (failed.name, failed.found.clone())
}

#[test]
fn an_enrolled_client_shows_its_certificate_and_reaches_the_coordinator_over_tls() {
    let authority = Authority::new();
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    let door = Encrypted::before(&coordinator, &authority, &["localhost"]);
    let place = tempfile::tempdir().expect("a temporary directory");
    let config = config(place.path(), &door.url("localhost"), &authority.pem(), &authority);
    let checks = preflight::run(&config);
    let passed = |name: &str| checks.iter().any(|check| check.name == name && check.outcome == Outcome::Passed);
    for name in ["identity", "certificate", "data", "model", "host name", "TCP", "TLS", "coordinator", "labels"] {
        assert!(passed(name), "{name} did not pass: {checks:?}");
    }
    // The base model of the run in these tests has no files.
    let run = checks.iter().find(|check| check.name == "run").expect("a run is live");
    assert!(run.outcome == Outcome::Failed && run.found.contains("needs the base model"), "{run:?}");
    // The coordinator of these tests lives in 1970.
    let clock = checks.iter().find(|check| check.name == "clock").expect("asked");
    assert!(clock.outcome == Outcome::Warning && clock.found.contains("ahead of the coordinator's"), "{clock:?}");
    assert_eq!(door.shown(), ["north"]);
}

#[test]
fn the_usual_mistakes_with_tls_are_told_in_plain_words() {
    let (authority, other) = (Authority::new(), Authority::new());
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    let door = Encrypted::before(&coordinator, &authority, &["localhost"]);
    let place = || tempfile::tempdir().expect("a temporary directory");

    let wrong_name = place();
    let (check, found) = failure(&config(wrong_name.path(), &door.url("127.0.0.1"), &authority.pem(), &authority));
    assert!(check == "TLS" && found.contains("not made for the name 127.0.0.1"), "{check}: {found}");

    let wrong_authority = place();
    let (check, found) = failure(&config(wrong_authority.path(), &door.url("localhost"), &other.pem(), &authority));
    assert!(check == "TLS" && found.contains("not from the authority in ca.pem"), "{check}: {found}");

    let clear_text = place();
    let url = door.url("127.0.0.1").replace("https", "http");
    let (check, found) = failure(&config(clear_text.path(), &url, &authority.pem(), &authority));
    assert!(check == "clear text" && found.contains("TLS"), "{check}: {found}");

    let not_tls = place();
    let url = coordinator.url().replace("http://127.0.0.1", "https://localhost");
    let (check, found) = failure(&config(not_tls.path(), &url, &authority.pem(), &authority));
    assert!(check == "TLS" && found.contains("clear text"), "{check}: {found}");

    let nobody = place();
    let (check, found) = failure(&config(nobody.path(), "https://127.0.0.1:1", &authority.pem(), &authority));
    assert!(check == "TCP" && found.contains("nobody listens there"), "{check}: {found}");
}

#[test]
fn certificates_outside_of_their_time_are_told_apart_by_the_clock() {
    let authority = Authority::new();
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    for (years, words) in [((2000, 2001), "has expired"), ((3000, 3001), "not valid yet")] {
        let door = Encrypted::valid(&coordinator, &authority, &["localhost"], years);
        let place = tempfile::tempdir().expect("a temporary directory");
        let (check, found) = failure(&config(place.path(), &door.url("localhost"), &authority.pem(), &authority));
        assert!(check == "TLS" && found.contains(words), "{check}: {found}");
    }
}
