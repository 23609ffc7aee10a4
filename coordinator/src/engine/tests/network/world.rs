//! Virtual time: what happens when, and between whom.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use fedlora_adapter::{ClientId, Purpose, Seed};
use rand::{Rng, RngExt};

use super::{
    check,
    client::{Bell, Client, Habit},
    content::Contents,
    host::Host,
    message::Message,
    model::Model,
    plan::Plan,
    sabotage::Sabotage,
    service::Ask,
    trace::{Broken, Checked, Counts, Trace, promise},
    wire::{Line, Way, Wire},
};
use crate::{RunStatus, StepTask, UpdateMeta};

/// What the coordinator's clock shows at the beginning.
const START_MS: i64 = 1_000_000_000;
/// Requests that come within this time share a transaction.
const TURN_MS: u64 = 5;
/// How long the check of an update takes, and how long where the disk is slow.
const CHECK_MS: u64 = 20;
const LONG_CHECK_MS: u64 = 5_000;
/// Once the network is whole, everything that was lost is noticed within this time, and a run that failed is restored.
const RECOVERY_MS: u64 = 300_000;
/// And then no round takes longer than this.
const ROUND_MS: u64 = 30_000;
/// What comes after the end must change nothing.
const AFTERMATH_MS: u64 = 60_000;

/// Something that is due.
#[derive(Debug)]
pub(super) enum Event {
    /// A message arrives.
    Land(Line, Message),
    /// The end that sends this way notices that its line is dead.
    Lost(Line, Way),
    Ring(usize, Bell),
    /// The engine takes up what waits. The first number is that of the coordinator's process.
    Serve(u64),
    Wake(u64, u64),
    Step(u64, Box<StepTask>),
    /// The check of a client's upload is over.
    Checked(u64, ClientId, Ask),
    /// A process of the coordinator begins.
    Begin,
    Operator,
    Fault,
    Heal,
}

/// Everything.
pub(super) struct World {
    pub(super) rng: Box<dyn Rng>,
    pub(super) now: u64,
    /// How far the coordinator's clock is ahead.
    pub(super) ahead_ms: i64,
    queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    pub(super) wire: Wire,
    pub(super) host: Host,
    pub(super) clients: Vec<Client>,
    pub(super) contents: Contents,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    /// Updates that were sent, to be sent again by others.
    pub(super) overheard: Vec<UpdateMeta>,
    pub(super) plan: Plan,
    pub(super) sabotage: Sabotage,
    /// Counts processes of the coordinator.
    pub(super) life: u64,
    /// The engine is about to take up what waits.
    pub(super) is_serving: bool,
    /// Counts the engine's wishes to be woken; only the last one means something.
    pub(super) wake: u64,
    pub(super) faults_left: u32,
    pub(super) healed: Option<u64>,
    completed: Option<u64>,
}

/// What became of a seed.
pub(super) struct Outcome {
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    pub(super) broken: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, faults: u32, sabotage: Sabotage) -> Self {
        let mut rng: Box<dyn Rng> = Box::new(Seed(seed).run(Purpose::Faults));
        let plan = Plan::draw(&mut rng, sabotage);
        let habit = if sabotage == Sabotage::ForgetfulClients { Habit::Forgets } else { Habit::Honest };
        let host = Host::new(Model::new(plan.rules), sabotage);
        Self {
            rng,
            now: 0,
            ahead_ms: START_MS,
            queue: BTreeMap::new(),
            scheduled: 0,
            wire: Wire::default(),
            host,
            clients: (0..plan.clients).map(|client| Client::new(ClientId(client), habit)).collect(),
            contents: Contents::default(),
            trace: Trace::default(),
            counts: Counts::default(),
            overheard: Vec::new(),
            plan,
            sabotage,
            life: 0,
            is_serving: false,
            wake: 0,
            faults_left: faults,
            healed: None,
            completed: None,
        }
    }

    /// Plays to the end, or until a promise is broken.
    pub(super) fn play(mut self) -> Outcome {
        let played = catch_unwind(AssertUnwindSafe(|| self.run()));
        let model = &self.host.model;
        self.counts.add("acknowledged updates", model.counted.len() as u64);
        self.counts.add("published rounds", model.published.len() as u64);
        self.counts.add("runs", model.over.len() as u64);
        let failed = model.over.values().filter(|(status, _)| matches!(status, RunStatus::Failed(_)));
        self.counts.add("failed runs", failed.count() as u64);
        self.counts.add("virtual seconds", self.now / 1_000);
        let broken = match played {
            Ok(played) => played.err().map(|Broken(why)| why),
            // The panic has said what it had to say.
            Err(_) => Some("something panics".to_owned()),
        };
        Outcome { trace: self.trace, counts: self.counts, broken }
    }

    fn run(&mut self) -> Checked {
        self.trace.add(0, format!("{:?}", self.plan));
        self.schedule(0, Event::Begin);
        self.schedule(1, Event::Operator);
        self.schedule(2_000, Event::Fault);
        for client in 0..self.clients.len() {
            let pause_ms = self.rng.random_range(0..3_000);
            self.with_client(client, |client, hands| {
                client.end(pause_ms, hands);
                Ok(())
            })?;
        }
        while !self.is_over()? {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                return Err(Broken("nothing is due".to_owned()));
            };
            self.now = at;
            self.happen(event)?;
            self.settle();
        }
        let Some(running) = self.host.running.as_mut() else { return Ok(()) };
        check::everything(&mut running.engine, &self.host.model, &self.contents)
    }

    /// The run must be completed in time once the network is whole; and some time after that, all is quiet.
    fn is_over(&mut self) -> Checked<bool> {
        let Some(healed) = self.healed else { return Ok(false) };
        let has_completed = self.host.model.live.is_none()
            && self.host.model.over.last_key_value().is_some_and(|(_, (status, _))| *status == RunStatus::Completed);
        if has_completed {
            self.completed.get_or_insert(self.now);
        }
        let limit = healed + RECOVERY_MS + ROUND_MS * self.plan.rules.rounds;
        promise(has_completed || self.now < limit, || {
            format!("the network is whole since {healed} ms, and the run does not end: {:?}", self.host.model.live)
        })?;
        let is_over = self.completed.is_some_and(|completed| self.now >= completed + AFTERMATH_MS);
        let busy = || self.clients.iter().filter(|client| !client.is_at_rest()).map(|client| client.id);
        promise(!is_over || busy().next().is_none(), || {
            format!("{:?} do not come to rest", busy().collect::<Vec<_>>())
        })?;
        Ok(is_over)
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at, self.scheduled), event);
    }

    pub(super) fn clock(&self) -> u64 {
        u64::try_from(self.now as i64 + self.ahead_ms).unwrap_or_default()
    }

    pub(super) fn note(&mut self, line: impl std::fmt::Display) {
        self.trace.add(self.now, line);
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Land(line, message) => self.land(line, message)?,
            Event::Lost(line, Way::Up) => self.client_lost(line)?,
            Event::Lost(line, Way::Down) => self.coordinator_lost(line),
            Event::Ring(client, bell) => self.with_client(client, |client, hands| client.ring(bell, hands))?,
            Event::Serve(life) if life == self.life => self.serve()?,
            Event::Wake(life, wake) if (life, wake) == (self.life, self.wake) => self.arm()?,
            Event::Step(life, task) if life == self.life => self.step(*task),
            Event::Checked(life, client, ask) if life == self.life => self.checked(client, ask),
            Event::Serve(_) | Event::Wake(..) | Event::Step(..) | Event::Checked(..) => {}
            Event::Begin => self.begin()?,
            Event::Operator => self.operate(),
            Event::Fault => self.fault()?,
            Event::Heal => self.heal(),
        }
        Ok(())
    }

    /// Sends what the services have to say, and has the engine take up what they ask.
    fn settle(&mut self) {
        let Some(running) = &mut self.host.running else { return };
        let answers = std::mem::take(&mut running.service.answers);
        let checked = std::mem::take(&mut running.service.checked);
        if running.has_work() && !std::mem::replace(&mut self.is_serving, true) {
            let wait_ms = self.rng.random_range(0..TURN_MS);
            self.schedule(self.now + wait_ms, Event::Serve(self.life));
        }
        for (line, down) in answers {
            self.send_down(line, down);
        }
        for (client, ask) in checked {
            let longest_ms = if self.rng.random_range(0..4) == 0 { LONG_CHECK_MS } else { CHECK_MS };
            let at = self.now + self.rng.random_range(0..longest_ms);
            self.schedule(at, Event::Checked(self.life, client, ask));
        }
    }

    fn checked(&mut self, client: ClientId, ask: Ask) {
        if let Some(running) = &mut self.host.running {
            running.service.hand_in(client, ask);
        }
    }
}
