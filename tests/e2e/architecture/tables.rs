//! The rules, as tables. Rows of crates that do not exist yet bind them from their first day.

/// A crate of the workspace.
pub(super) struct Row {
    pub(super) level: u8,
    pub(super) name: &'static str,
    /// Crates of the workspace that it may depend on, in any way.
    pub(super) may_use: &'static [&'static str],
}

const fn row(level: u8, name: &'static str, may_use: &'static [&'static str]) -> Row {
    Row { level, name, may_use }
}

const ADAPTER: &str = "fedlora-adapter";
const PRIVACY: &str = "fedlora-privacy";
const AGGREGATION: &str = "fedlora-aggregation";
const PROTO: &str = "fedlora-proto";
const LEARNER: &str = "fedlora-learner";
const COORDINATOR: &str = "fedlora-coordinator";
const CLIENT: &str = "fedlora-client";
const SIMULATIONS: &str = "fedlora-simulations";
const TESTS: &str = "fedlora-tests";

/// Who may use whom inside the workspace.
pub(super) const CRATES: &[Row] = &[
    row(0, ADAPTER, &[]),
    row(0, PRIVACY, &[]),
    row(1, AGGREGATION, &[ADAPTER, PRIVACY]),
    row(1, PROTO, &[ADAPTER]),
    row(1, LEARNER, &[ADAPTER, PRIVACY]),
    row(2, COORDINATOR, &[ADAPTER, AGGREGATION, PRIVACY, PROTO]),
    row(2, CLIENT, &[ADAPTER, LEARNER, PRIVACY, PROTO]),
    row(3, SIMULATIONS, &[ADAPTER, AGGREGATION, CLIENT, COORDINATOR, LEARNER, PRIVACY, PROTO]),
    row(4, TESTS, &[ADAPTER, AGGREGATION, CLIENT, COORDINATOR, LEARNER, PRIVACY, PROTO, SIMULATIONS]),
];

/// A family of outside packages, `burn` with every `burn-…`, and the crates that may name it.
pub(super) struct Home {
    pub(super) family: &'static str,
    pub(super) crates: &'static [&'static str],
}

/// Where heavy dependencies live.
pub(super) const HOMES: &[Home] = &[
    Home { family: "burn", crates: &[LEARNER] },
    Home { family: "tokenizers", crates: &[LEARNER] },
    // Models come from the Hugging Face Hub; everything else that travels is gRPC.
    Home { family: "ureq", crates: &[LEARNER] },
    Home { family: "nalgebra", crates: &[AGGREGATION] },
    Home { family: "opendp", crates: &[PRIVACY] },
    Home { family: "prost", crates: &[PROTO] },
    Home { family: "tonic", crates: &[PROTO, COORDINATOR, CLIENT, TESTS] },
    Home { family: "tokio", crates: &[PROTO, COORDINATOR, CLIENT, SIMULATIONS, TESTS] },
    Home { family: "clap", crates: &[COORDINATOR, CLIENT, SIMULATIONS] },
];

/// A crate that must not reach a family, however long the chain.
pub(super) struct Ban {
    pub(super) from: &'static str,
    pub(super) family: &'static str,
    pub(super) why: &'static str,
}

const NO_RUNTIME: &str = "core logic is tested without an async runtime";

/// What no chain of dependencies may drag in.
pub(super) const BANS: &[Ban] = &[
    Ban { from: COORDINATOR, family: "burn", why: "the coordinator never trains" },
    Ban { from: ADAPTER, family: "tokio", why: NO_RUNTIME },
    Ban { from: PRIVACY, family: "tokio", why: NO_RUNTIME },
    Ban { from: AGGREGATION, family: "tokio", why: NO_RUNTIME },
    Ban { from: LEARNER, family: "tokio", why: NO_RUNTIME },
];

/// Whether a package belongs to a family.
pub(super) fn belongs(package: &str, family: &str) -> bool {
    package.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}
