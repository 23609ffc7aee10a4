//! What a seed decides before anything happens: the clients, and the rules of the runs.

use std::collections::BTreeMap;

use fedlora_adapter::{ModuleName, ModuleSpec};
use fedlora_aggregation::Weighting;
use rand::{Rng, RngExt};

use super::{round::Rules, sabotage::Sabotage};
use crate::{
    ModelDescription,
    config::RunConfig,
    engine::{plan, tests::support},
};

const ROUNDS: u64 = 6;
const RECONNECT_MS: u64 = 30_000;
/// Wide enough for an update of several sectors of a disk.
const WIDTH: usize = 300;

/// The clients and the configuration of the runs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) clients: u64,
    keys: String,
    pub(super) rules: Rules,
}

impl Plan {
    /// A sabotage is to be seen: then no deadline helps out, and a round needs everybody.
    pub(super) fn draw(rng: &mut dyn Rng, sabotage: Sabotage) -> Self {
        let is_sabotaged = sabotage != Sabotage::None;
        let clients = rng.random_range(3..=8);
        let available = rng.random_range(2..=clients.min(4)) as usize;
        let invites_some = rng.random::<bool>() && !is_sabotaged;
        let target = if invites_some { rng.random_range(available..=clients as usize) } else { usize::MAX };
        let over_sample = if rng.random::<bool>() { 0.5 } else { 0.0 };
        let minimum = rng.random_range(1..=available);
        let grace_ms = rng.random_range(0..6_000);
        let has_deadline = rng.random_range(0..3) > 0 && !is_sabotaged;
        let deadline_ms = has_deadline.then(|| rng.random_range(20_000..90_000));
        let weighting = if rng.random::<bool>() { Weighting::Examples } else { Weighting::Uniform };
        let invited = if invites_some { (target as f64 * (1.0 + over_sample)).ceil() as usize } else { usize::MAX };
        let reconnect_ms = RECONNECT_MS;
        let rules = Rules {
            rounds: ROUNDS,
            available,
            invited,
            minimum,
            target,
            grace_ms,
            deadline_ms,
            reconnect_ms,
            weighting,
        };
        Self { clients, keys: keys(&rules, over_sample), rules }
    }

    pub(super) fn config(&self) -> RunConfig {
        let text =
            format!("learning-rate = 0.1\nlocal-steps = 3\n{}\n[method]\nname = 'fedavg'\n[lora]\nr = 2\n", self.keys);
        plan::from_toml(&text).expect("a valid configuration")
    }
}

/// The rules as an operator writes them down.
fn keys(rules: &Rules, over_sample: f64) -> String {
    let Rules { rounds, available, minimum, target, grace_ms, .. } = rules;
    let some = if rules.invited == usize::MAX {
        String::new()
    } else {
        format!("clients-per-round = {target}\nover-sample = {over_sample:?}\n")
    };
    let weighting = if rules.weighting == Weighting::Uniform { "uniform" } else { "examples" };
    format!(
        "num-rounds = {rounds}\nmin-available-clients = {available}\nmin-results = {minimum}\ngrace-ms = {grace_ms}\n\
         round-deadline-ms = {}\nweighting = '{weighting}'\n{some}",
        rules.deadline_ms.unwrap_or(0)
    )
}

/// The base model.
pub(super) fn model() -> ModelDescription {
    let module = ModuleSpec::new(WIDTH, 3);
    ModelDescription { modules: BTreeMap::from([(ModuleName::new("layer"), module)]), ..support::model() }
}
