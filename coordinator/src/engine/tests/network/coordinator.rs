//! The coordinator in time: its process begins and ends, its engine is served and woken, and its operator wants a run.

use fedlora_adapter::{Purpose, RoundId, Seed};
use rand::RngExt;

use super::{
    plan,
    sabotage::Sabotage,
    trace::Checked,
    wire::Way,
    world::{Event, World},
};
use crate::{Command, RunStatus, StepTask};

/// Longest sleep of the engine's thread.
const LONGEST_SLEEP_MS: u64 = 60_000;
/// How often the operator looks whether a run is live.
const OPERATOR_MS: u64 = 1_500;
/// How long a server step takes.
const STEP_MS: std::ops::Range<u64> = 5..1_500;
/// How long the coordinator is away.
const AWAY_MS: std::ops::Range<u64> = 50..15_000;

impl World {
    pub(super) fn begin(&mut self) -> Checked {
        self.life += 1;
        self.is_serving = false;
        self.note(format!("## process {} of the coordinator begins, its clock shows {}", self.life, self.clock()));
        self.host.begin(self.clock())?;
        self.arm()
    }

    pub(super) fn serve(&mut self) -> Checked {
        self.is_serving = false;
        let served = self.host.serve(self.clock(), &self.contents, &self.wire)?;
        for (line, down) in served.answers {
            self.send_down(line, down);
        }
        for task in served.steps {
            let at = self.now + self.rng.random_range(STEP_MS);
            self.schedule(at, Event::Step(self.life, Box::new(task)));
        }
        if served.has_crashed {
            self.note("## the coordinator ends in the middle of a transaction");
            let loses_power = self.rng.random();
            self.fall(loses_power);
        }
        self.arm()
    }

    /// Sets the engine's alarm.
    pub(super) fn arm(&mut self) -> Checked {
        let wait_ms = self.host.wait_ms(self.clock())?;
        let Some(running) = &mut self.host.running else { return Ok(()) };
        if wait_ms == Some(0) {
            running.own.push(Command::Tick);
        }
        self.wake += 1;
        let sleep_ms = wait_ms.filter(|wait_ms| *wait_ms > 0).unwrap_or(LONGEST_SLEEP_MS);
        self.schedule(self.now + sleep_ms.min(LONGEST_SLEEP_MS), Event::Wake(self.life, self.wake));
        Ok(())
    }

    pub(super) fn step(&mut self, mut task: StepTask) {
        if self.sabotage == Sabotage::LossyStep && task.updates.len() > 1 {
            task.updates.pop();
        }
        self.note(format!("the server step of {} is done", task.round));
        let outcome = Command::Step(Box::new(task.perform()));
        if let Some(running) = &mut self.host.running {
            running.own.push(outcome);
        }
    }

    /// The coordinator's process ends; another one begins later.
    pub(super) fn fall(&mut self, loses_power: bool) {
        self.counts.add("bounces", 1);
        self.counts.add("losses of power", u64::from(loses_power));
        // Drawn from a generator of its own: what is torn must not decide what happens next.
        let mut coins = Seed(self.rng.random()).run(Purpose::Faults);
        self.host.end(loses_power, &mut coins);
        for line in self.wire.lines() {
            self.let_go(line, Way::Down);
        }
        let at = self.now + self.rng.random_range(AWAY_MS);
        self.schedule(at, Event::Begin);
    }

    /// There is to be a run until all faults are over and one is complete. A run that failed goes on from its last
    /// adapter. An operator that heard no answer says the same again.
    pub(super) fn operate(&mut self) {
        self.schedule(self.now + OPERATOR_MS, Event::Operator);
        let model = &self.host.model;
        let last = model.over.last_key_value().map(|(run, (status, done))| (*run, *status, *done));
        let is_enough = self.healed.is_some() && last.is_some_and(|(_, status, _)| status == RunStatus::Completed);
        let (is_live, number) = (model.live.is_some(), model.over.len());
        let repeats =
            model.keys.last_key_value().map(|(key, _)| key.clone()).filter(|_| self.rng.random_range(0..8) == 0);
        let command = match last {
            _ if is_live || is_enough => repeats.map(|key| self.start_run(key)),
            Some((run, RunStatus::Failed(_), round)) if round > RoundId(0) => Some(Command::Restore { run, round }),
            _ => Some(self.start_run(format!("{number:04}"))),
        };
        if let Some(running) = &mut self.host.running {
            running.own.extend(command);
        }
    }

    fn start_run(&self, key: String) -> Command {
        Command::StartRun { config: Box::new(self.plan.config()), model: Box::new(plan::model()), key }
    }
}
