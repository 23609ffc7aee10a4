//! Any sequence of commands, restarts and passing time, against a model that knows only the rules.
//!
//! The model reads the open round's number, phase and cohort, predicts each verdict, and remembers what was
//! acknowledged. At the end, every published adapter must hold exactly the clients of its frozen list.

use std::collections::{BTreeMap, BTreeSet};

use fedlora_adapter::{Digest, RoundId};
use proptest::prelude::*;

use super::support::{GRACE_MS, Rig, upload};
use crate::{Answer, Command, Control, ReasonCode, RunId, UpdateMeta, Verdict};

const CLIENTS: u64 = 6;
const RUN: RunId = RunId(1);

#[derive(Debug, Clone)]
enum Op {
    Connect(u64),
    Disconnect(u64),
    /// Client, how far from the open round, which of two contents.
    Submit(u64, i64, bool),
    Repeat(usize),
    Refuse(u64),
    Decline(u64),
    Advance(u64),
    Step,
    Restart,
    Pause,
    Resume,
    Drain(u64),
    Expel(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    prop_oneof![
        8 => client.clone().prop_map(Op::Connect),
        2 => client.clone().prop_map(Op::Disconnect),
        12 => (client.clone(), prop_oneof![8 => Just(0_i64), 1 => Just(-1), 1 => Just(1)], any::<bool>())
            .prop_map(|(client, distance, content)| Op::Submit(client, distance, content)),
        3 => (0_usize..40).prop_map(Op::Repeat),
        1 => client.clone().prop_map(Op::Refuse),
        1 => client.clone().prop_map(Op::Decline),
        3 => prop_oneof![0_u64..200, Just(GRACE_MS)].prop_map(Op::Advance),
        5 => Just(Op::Step),
        3 => Just(Op::Restart),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        1 => client.clone().prop_map(Op::Drain),
        1 => client.prop_map(Op::Expel),
    ]
}

/// What an observer knows.
#[derive(Default)]
struct Model {
    acknowledged: BTreeMap<(u64, u64), Digest>,
    history: Vec<UpdateMeta>,
    cohorts: BTreeMap<u64, Vec<u64>>,
    latest: u64,
}

/// The last round as the engine shows it.
struct Shown {
    round: u64,
    phase: String,
    cohort: Vec<u64>,
}

fn shown(rig: &mut Rig) -> Option<Shown> {
    let detail = rig.engine.round_detail(Some(RUN), None).ok()?;
    let cohort = detail.clients.iter().map(|client| client.client_id).collect();
    let summary = detail.summary.expect("filled in");
    Some(Shown { round: summary.round, phase: summary.phase, cohort })
}

impl Model {
    fn verdict(&self, update: &UpdateMeta, shown: Option<&Shown>, base: Option<Digest>, is_live: bool) -> Verdict {
        let (round, client) = (update.round.0, update.client.0);
        if let Some(first) = self.acknowledged.get(&(round, client)) {
            return if *first == update.blob { Verdict::Duplicate } else { Verdict::Conflict };
        }
        match shown.filter(|_| is_live) {
            Some(shown) if shown.round == round => {
                if !shown.cohort.contains(&client) {
                    Verdict::NotInvited
                } else if shown.phase == "collecting" {
                    if base == Some(update.base) { Verdict::Accepted } else { Verdict::Rejected }
                } else {
                    Verdict::Late
                }
            }
            _ => Verdict::Late,
        }
    }

    fn submit(&mut self, rig: &mut Rig, update: UpdateMeta) {
        let before = shown(rig);
        let is_live = rig.engine.view().run.is_some();
        let base = rig.engine.view().round.map(|round| round.plan.base);
        let expected = self.verdict(&update, before.as_ref(), base, is_live);
        let receipt = rig.submit_this(update);
        assert_eq!(receipt.verdict, expected, "{update:?}");
        assert_eq!(receipt.reason.is_none(), matches!(expected, Verdict::Accepted | Verdict::Duplicate));
        if expected == Verdict::Accepted {
            self.acknowledged.insert((update.round.0, update.client.0), update.blob);
        }
        self.history.push(update);
    }

    /// Rounds follow each other, and none begins again with others.
    fn look(&mut self, rig: &mut Rig) {
        let Some(shown) = shown(rig) else { return };
        assert!(
            shown.round == self.latest || shown.round == self.latest + 1,
            "from {} to {}",
            self.latest,
            shown.round
        );
        self.latest = shown.round;
        let first = self.cohorts.entry(shown.round).or_insert(shown.cohort.clone());
        assert_eq!(*first, shown.cohort);
    }
}

fn play(rig: &mut Rig, model: &mut Model, op: Op) {
    match op {
        Op::Connect(client) => rig.connect(client),
        Op::Disconnect(client) => rig.disconnect(client),
        Op::Submit(client, distance, content) => {
            let Some(run) = rig.engine.view().run else { return };
            let Some(round) = rig.engine.view().round else { return };
            let value = if content { 1.0 } else { 2.0 };
            let mut update = upload(&rig.blobs, &run.spec, &round, client, value).expect("writable");
            update.round = RoundId(update.round.0.saturating_add_signed(distance));
            model.submit(rig, update);
        }
        Op::Repeat(place) => {
            let Some(update) = model.history.get(place).copied() else { return };
            // As a client would that lost the answer: the file is there again.
            if update.round.0 == model.latest && !rig.blobs.contains(update.blob) {
                return;
            }
            model.submit(rig, update);
        }
        Op::Refuse(client) => {
            let Some(round) = rig.engine.view().round else { return };
            let run = rig.engine.view().run.expect("live");
            let update = upload(&rig.blobs, &run.spec, &round, client, 3.0).expect("writable");
            let refuse = Command::Refuse(update, ReasonCode::NotFinite, String::new());
            let Ok(Answer::Receipt(receipt)) = rig.tell(refuse) else { panic!("a receipt was expected") };
            assert!(matches!(receipt.verdict, Verdict::Rejected | Verdict::NotInvited), "{receipt:?}");
        }
        Op::Decline(client) => {
            if rig.sessions.contains_key(&fedlora_adapter::ClientId(client)) {
                rig.decline(client, model.latest);
            }
        }
        Op::Advance(ms) => rig.advance(ms),
        Op::Step => rig.step(),
        Op::Restart => rig.restart(),
        Op::Pause | Op::Resume => {
            let control = if matches!(op, Op::Pause) { Control::Pause } else { Control::Resume };
            // Refused once the run is over.
            let _ = rig.tell(Command::Control { run: None, control });
        }
        Op::Drain(client) => drop(rig.tell(Command::Drain(fedlora_adapter::ClientId(client))).expect("kept")),
        Op::Expel(client) => {
            rig.sessions.remove(&fedlora_adapter::ClientId(client));
            rig.tell(Command::Expel(fedlora_adapter::ClientId(client))).expect("kept");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_follow_the_rules_and_adapters_hold_exactly_the_frozen_list(
        clients_per_round in 2_u64..5,
        has_deadline in any::<bool>(),
        ops in prop::collection::vec(any_op(), 1..120),
    ) {
        let deadline = if has_deadline { 500 } else { 0 };
        let keys = format!(
            "num-rounds = 8\nmin-available-clients = 2\nclients-per-round = {clients_per_round}\n\
             round-deadline-ms = {deadline}\nover-sample = 0.5\ngrace-ms = 20"
        );
        let mut rig = Rig::new();
        rig.start(super::support::config(&keys));
        let mut model = Model::default();
        for op in ops {
            play(&mut rig, &mut model, op);
            model.look(&mut rig);
        }
        rig.restart();
        model.look(&mut rig);
        let done = rig.engine.run_summary(RUN).expect("known").rounds_done;
        prop_assert!(done <= model.latest && model.latest <= done + 1);
        for round in 1..=done {
            let (adapter, _) = rig.engine.export(Some(RUN), Some(RoundId(round))).expect("published");
            let factors = adapter.modules().values().next().expect("a module");
            let counted: BTreeSet<u64> =
                (0..).zip(factors.a.values()).filter(|(_, value)| **value != 0.0).map(|(client, _)| client).collect();
            let frozen: BTreeSet<u64> = model
                .acknowledged
                .keys()
                .filter(|(acknowledged, _)| *acknowledged == round)
                .map(|(_, client)| *client)
                .collect();
            prop_assert_eq!(&counted, &frozen, "round {}", round);
            // One content is twice the other, and each counts with its share.
            let share = 1.0 / counted.len() as f64;
            for client in counted {
                let value = f64::from(factors.a.values()[client as usize]);
                let expected = [1.0, 2.0].map(|sent| f64::from((sent * share) as f32).to_bits());
                let is_once = expected.contains(&value.to_bits());
                prop_assert!(is_once, "round {}, client {}: {}", round, client, value);
            }
        }
    }
}
