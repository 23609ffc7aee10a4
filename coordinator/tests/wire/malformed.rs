//! Everything that a broken or hostile client can send: each case has its exact verdict or status, and none of them
//! changes what the round will be made of.

mod cases;
mod headers;
mod safetensors;
mod streams;

use fedlora_coordinator::grpc::{RateLimits, Settings};
use fedlora_proto::federation::Verdict;

use crate::{
    files,
    support::{WIDTH, World},
};
use cases::{Case, Expected};

/// Every case by its name.
fn all(world: &World) -> Vec<Case> {
    let mut cases = safetensors::cases(world);
    cases.extend(headers::cases(world));
    cases.extend(streams::cases(world));
    cases
}

/// Many calls of one client in a moment are what is tested here, not their number.
fn world() -> World {
    let many = std::num::NonZeroU32::MAX;
    let limits = RateLimits { client_burst: many, ..RateLimits::default() };
    World::with(WIDTH, Settings::default(), limits)
}

#[tokio::test]
async fn every_malformed_upload_has_its_verdict_and_changes_nothing() {
    let world = world();
    let honest = files::honest(WIDTH, 1);
    world.upload_file(1, &honest, 100).await.expect("a receipt");
    let accepted = world.engine.books().accepted;
    let cases = all(&world);
    assert!(cases.len() >= 60, "{} cases", cases.len());
    for case in &cases {
        let found = Expected::of(&world.upload(case.client, tokio_stream::iter(case.messages.clone())).await);
        assert_eq!(found, case.expected, "{}", case.name);
        assert_eq!(world.engine.books().accepted, accepted, "{}", case.name);
    }
    // Whoever sent all this may still send a valid update.
    let late_but_honest = world.upload_file(2, &files::honest(WIDTH, 2), 100).await.expect("a receipt");
    assert_eq!(late_but_honest.verdict(), Verdict::Accepted);
}

#[test]
fn no_two_cases_have_one_name() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _guard = runtime.enter();
    let mut names: Vec<_> = all(&world()).into_iter().map(|case| case.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[tokio::test]
async fn unusual_files_that_are_valid_count() {
    let world = world();
    for (client, (name, file)) in (1..).zip(safetensors::unusual()) {
        let receipt = world.upload_file(client, &file, 100).await.expect("a receipt");
        assert_eq!(receipt.verdict(), Verdict::Accepted, "{name}: {}", receipt.detail);
    }
}
