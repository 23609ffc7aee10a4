//! What the stand-ins are asked about: a run of two rounds, its clients, its model.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, AdapterSpec, ClientId, Digest, PeftOptions, Seed};
use fedlora_aggregation::{Init, initial};
use fedlora_coordinator::{CurrentRun, ModelDescription, RunId, Standing, config::RunConfig};
use fedlora_proto::operator::{
    Checkpoint, ClientSummary, Event, RoundClient, RoundDetail, RoundMetrics, RoundSummary, RunPrivacy, RunSummary,
    TokenSummary,
};

use crate::fake::{Known, NOW};

fn spent() -> RunPrivacy {
    RunPrivacy {
        unit: "client".to_owned(),
        delta: 1e-4,
        epsilon_pld: Some(1.25),
        epsilon_rdp: Some(1.5),
        target_epsilon: 3.0,
        noise_multiplier: 2.5,
        clipping_norm: 0.5,
        is_simulated: false,
    }
}

/// What a sensible coordinator in the middle of its second run knows.
pub(crate) fn busy() -> Known {
    let run = |run_id: u64, status: &str, rounds_done| RunSummary {
        run_id,
        name: "sentences".to_owned(),
        status: status.to_owned(),
        method: "fedsa-lora".to_owned(),
        rounds_done,
        num_rounds: 3,
        created_ms: NOW - 60_000,
        finished_ms: if status == "running" { 0 } else { NOW - 30_000 },
        reason: if status == "failed" { "1 of 2 results".to_owned() } else { String::new() },
        privacy: (status == "running").then(spent),
    };
    let rounds = vec![published(2, 1), open(2, 2)];
    let metrics = vec![metrics(2, 1)];
    Known {
        live: Some(Arc::new(live(2))),
        runs: vec![run(2, "running", 1), run(1, "failed", 0)],
        rounds,
        events: vec![
            event(1, "run-started", 0, None, "method=fedsa-lora"),
            event(2, "round-opened", 1, None, ""),
            event(3, "update-accepted", 1, Some(0), "examples=640"),
        ],
        metrics,
        checkpoints: vec![
            Checkpoint { run_id: 2, round: 0, blob: "ab".repeat(32), size_bytes: 1024, time_ms: NOW - 60_000 },
            Checkpoint { run_id: 2, round: 1, blob: "cd".repeat(32), size_bytes: 1024, time_ms: NOW - 30_000 },
        ],
        standings: BTreeMap::from([(ClientId(0), Standing { connected: true, rounds_accepted: 1 })]),
        clients: vec![
            client(0, "amazon", "client", "enrolled"),
            client(1, "imdb", "client", "drained"),
            client(7, "ops", "operator", "enrolled"),
            client(8, "gone", "client", "revoked"),
        ],
        tokens: vec![TokenSummary {
            token_id: "5f0c2a7e".to_owned(),
            name: "yelp".to_owned(),
            institution: "yelp".to_owned(),
            role: "client".to_owned(),
            created_ms: NOW,
            expires_ms: NOW + 86_400_000,
            state: "open".to_owned(),
        }],
        adapter: Some(adapter()),
        is_stopped: false,
        calls: Vec::new(),
    }
}

fn live(run: u64) -> CurrentRun {
    CurrentRun {
        id: RunId(run),
        name: "sentences".to_owned(),
        spec: spec(),
        base_model: model().digest,
        labels: Vec::new(),
        peft: PeftOptions::default(),
    }
}

/// A live run.
pub(crate) fn current(run: u64) -> Arc<CurrentRun> {
    Arc::new(live(run))
}

/// A round of two clients of which one has answered.
pub(crate) fn open(run_id: u64, round: u64) -> RoundDetail {
    let summary = RoundSummary {
        run_id,
        round,
        phase: "collecting".to_owned(),
        invited: 2,
        accepted: 1,
        opened_ms: NOW - 10_000,
        deadline_ms: NOW + 50_000,
        ..Default::default()
    };
    let accepted = RoundClient {
        client_id: 0,
        state: "accepted".to_owned(),
        examples: 640,
        steps: 20,
        train_loss: Some(0.6875),
        digest: "ef".repeat(32),
        ..Default::default()
    };
    let training = RoundClient { client_id: 1, state: "training".to_owned(), steps: 5, ..Default::default() };
    RoundDetail { summary: Some(summary), clients: vec![accepted, training] }
}

/// The same round when it is over.
pub(crate) fn published(run_id: u64, round: u64) -> RoundDetail {
    let mut detail = open(run_id, round);
    if let Some(summary) = &mut detail.summary {
        "published".clone_into(&mut summary.phase);
        summary.accepted = 2;
        summary.ended_ms = NOW;
        summary.train_loss = Some(0.5);
        summary.adapter = "cd".repeat(32);
    }
    "accepted".clone_into(&mut detail.clients[1].state);
    detail
}

pub(crate) fn metrics(run: u64, round: u64) -> RoundMetrics {
    RoundMetrics {
        summary: published(run, round).summary,
        update_norm: 0.25,
        aggregation_residual: Some(0.01),
        bytes_up: 2_097_152,
        bytes_down: 1024,
        duration_ms: 12_340,
        aggregation_ms: 40,
    }
}

pub(crate) fn event(number: u64, kind: &str, round: u64, client_id: Option<u64>, detail: &str) -> Event {
    let (kind, detail) = (kind.to_owned(), detail.to_owned());
    Event { number, time_ms: NOW + number * 1000, run_id: 2, round, client_id, kind, detail }
}

fn client(client_id: u64, name: &str, role: &str, state: &str) -> ClientSummary {
    ClientSummary {
        client_id,
        name: name.to_owned(),
        institution: format!("{name}-inc"),
        role: role.to_owned(),
        state: state.to_owned(),
        enrolled_ms: NOW - 100_000,
        last_seen_ms: 0,
        certificate_not_after_ms: NOW + 86_400_000,
        fingerprint: "0f".repeat(32),
        rounds_accepted: 0,
    }
}

/// Text of a model's description: a `query` and a `value` of four by four, and a head.
pub(crate) fn model_json() -> String {
    let digest = serde_json::to_string(&Digest::of(b"base")).expect("digests are text");
    let module = r#"{ "d_in": 4, "d_out": 4 }"#;
    format!(
        r#"{{ "base_model": "tiny-bert", "task_type": null, "digest": {digest},
              "modules": {{ "layer.0.query": {module}, "layer.0.value": {module} }},
              "head": {{ "classifier.weight": [2, 4] }}, "labels": ["bad", "good"] }}"#
    )
}

fn model() -> ModelDescription {
    serde_json::from_str(&model_json()).expect("a description")
}

fn spec() -> Arc<AdapterSpec> {
    let text = "num-rounds = 1\nlearning-rate = 0.1\nmethod.name = 'fedavg'\nlora.r = 2";
    let config = RunConfig::take(&mut text.parse().expect("TOML")).expect("valid");
    let model = model();
    config.spec(model.modules, model.head).expect("they fit")
}

/// An adapter like those that are published.
pub(crate) fn adapter() -> Adapter {
    initial(spec(), Init::Default, Seed(1), &|_| None).expect("nothing frozen is needed")
}
