//! One turn of the engine: commands that share a transaction, each told to engine and model alike.

use std::collections::BTreeSet;

use fedlora_adapter::{ClientId, Digest, RoundId};

use super::{
    check,
    content::Contents,
    host::Running,
    message::Down,
    model::{Judgement, Model},
    round::Stage,
    service::Ask,
    trace::{Broken, Checked, promise},
    wire::{Line, Way, Wire},
};
use crate::{
    Answer, Command, EngineError, Output, Push, Receipt, RunId, StepOutcome, StepTask, Timestamp,
    upload::parts::committed,
};

/// What an answer has to be.
enum Expected {
    Session(ClientId),
    Receipt(Judgement),
    /// Of the run that this key starts, or has started.
    Run(String),
    Nothing,
}

/// A turn.
pub(super) struct Turn<'a> {
    running: &'a mut Running,
    model: &'a mut Model,
    contents: &'a Contents,
    wire: &'a Wire,
    clock: u64,
    /// Answers that wait for the transaction.
    waiting: Vec<(Option<Line>, Answer)>,
    /// What is in the transaction.
    staged: Vec<String>,
    /// Server steps that are due.
    pub(super) steps: Vec<StepTask>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        running: &'a mut Running,
        model: &'a mut Model,
        contents: &'a Contents,
        wire: &'a Wire,
        clock: u64,
    ) -> Self {
        Self { running, model, contents, wire, clock, waiting: Vec::new(), staged: Vec::new(), steps: Vec::new() }
    }

    /// Stages a command, or answers a question after everything before it.
    pub(super) fn ask(&mut self, ask: Ask) -> Checked {
        match ask {
            Ask::Status(line, client, run, round, blob) => {
                let receipt = self.receipt(client, run, round, blob)?;
                let path = self.running.engine.blobs().spool_path(client, blob);
                let answer = Down::Status { committed: committed(&path), receipt };
                self.running.service.answers.push((line, answer));
                Ok(())
            }
            Ask::Known(line, update) => {
                let receipt = self.receipt(update.client, update.run, update.round, update.blob)?;
                self.running.service.known(line, receipt);
                Ok(())
            }
            Ask::Connect(line, client, examples) => self.stage(Some(line), Command::Connect { client, examples }),
            Ask::Disconnect(client, session) => self.stage(None, Command::Disconnect { client, session }),
            Ask::Decline(client, session, round) => {
                self.stage(None, Command::Decline { client, session, round, reason: "no".to_owned() })
            }
            Ask::Submit(line, update) => self.stage(Some(line), Command::Submit(update)),
            Ask::Refuse(line, update, code, detail) => self.stage(Some(line), Command::Refuse(update, code, detail)),
        }
    }

    fn receipt(&mut self, client: ClientId, run: RunId, round: RoundId, blob: Digest) -> Checked<Option<Receipt>> {
        self.commit()?;
        let receipt = self.running.engine.receipt(client, run, round, blob).map_err(broken)?;
        let found = receipt.as_ref().map(|receipt| (receipt.verdict, receipt.reason));
        let expected = self.model.receipt(client, run, round, blob);
        promise(found == expected, || format!("{client} hears {found:?} of {run}, {round}, not {expected:?}"))?;
        Ok(receipt)
    }

    pub(super) fn stage(&mut self, line: Option<Line>, command: Command) -> Checked {
        self.model.observe(self.clock);
        let expected = self.expect(&command)?;
        self.staged.push(words(&command));
        let answer = self.running.engine.stage(command, Timestamp(self.clock)).map_err(broken)?;
        self.check(expected, &answer).map_err(|broken| self.explain(broken))?;
        self.waiting.push((line, answer));
        self.look_up().map_err(|broken| self.explain(broken))
    }

    /// Tells the model.
    fn expect(&mut self, command: &Command) -> Checked<Expected> {
        match command {
            Command::Connect { client, .. } => return Ok(Expected::Session(*client)),
            Command::Disconnect { client, session } => self.model.disconnect(*client, *session),
            Command::Decline { client, session, round, .. } => self.model.decline(*client, *session, *round),
            Command::Submit(update) => return Ok(Expected::Receipt(self.model.submit(update, None))),
            Command::Refuse(update, code, _) => {
                return Ok(Expected::Receipt(self.model.submit(update, Some(*code))));
            }
            Command::StartRun { key, .. } => return Ok(Expected::Run(key.clone())),
            Command::Restore { .. } => return Ok(Expected::Run(String::new())),
            Command::Step(outcome) => self.expect_step(outcome)?,
            _ => self.model.tick(),
        }
        Ok(Expected::Nothing)
    }

    fn expect_step(&mut self, outcome: &StepOutcome) -> Checked {
        promise(outcome.result.is_ok(), || format!("the server step of {} failed: {outcome:?}", outcome.round))?;
        let live = self.model.live.as_ref().filter(|live| live.id == outcome.run);
        let round = live.and_then(|live| live.round.as_ref()).filter(|round| round.number == outcome.round);
        if let Some(round) = round.filter(|round| round.stage == Stage::Closed) {
            let mean = self.contents.mean(round.accepted.values(), self.model.rules.weighting);
            self.model.publish(mean);
        }
        Ok(())
    }

    fn check(&mut self, expected: Expected, answer: &Answer) -> Checked {
        match (expected, answer) {
            (Expected::Session(client), Answer::Session(session)) => {
                self.model.connect(client, *session);
                Ok(())
            }
            (Expected::Receipt(expected), Answer::Receipt(receipt)) => {
                let found = (receipt.verdict, receipt.reason);
                promise(found == expected, || format!("the verdict is {found:?}, not {expected:?}"))
            }
            (Expected::Run(key), Answer::Run(summary)) => {
                let run = RunId(summary.run_id);
                if let Some(first) = self.model.keys.get(&key) {
                    return promise(*first == run, || format!("the key of {first} starts {run}"));
                }
                self.run_began(run, RoundId(summary.rounds_done))?;
                if !key.is_empty() {
                    self.model.keys.insert(key, run);
                }
                Ok(())
            }
            (Expected::Nothing, Answer::Done) => Ok(()),
            (_, other) => Err(Broken(format!("the answer is {other:?}"))),
        }
    }

    /// A new run starts from the adapter that it is to go on from.
    fn run_began(&mut self, run: RunId, done: RoundId) -> Checked {
        let Some(global) = self.running.engine.view().global else {
            return Err(Broken(format!("{run} has no adapter")));
        };
        let is_new = self.model.live.is_none() && !self.model.over.contains_key(&run);
        promise(is_new, || format!("{run} begins again"))?;
        let before = self.model.over.last_key_value().map(|(run, _)| (*run, done));
        let expected = before.and_then(|key| self.model.published.get(&key)).copied().filter(|_| done > RoundId(0));
        let is_as_before = expected.is_none_or(|digest| digest == global.digest());
        promise(is_as_before, || format!("{run} does not go on from {done}"))?;
        self.model.start_run(run, done, (*global).clone());
        Ok(())
    }

    /// Whom a round that opened invites.
    fn look_up(&mut self) -> Checked {
        let Some(live) = &self.model.live else { return Ok(()) };
        let Some(round) = live.round.as_ref().filter(|round| round.cohort.is_none()) else { return Ok(()) };
        let (run, number) = (live.id, round.number);
        let detail = self.running.engine.round_detail(Some(run), Some(number));
        let detail = detail.map_err(|error| Broken(format!("{run} was to open {number}: {error}")))?;
        let cohort: BTreeSet<ClientId> = detail.clients.iter().map(|client| ClientId(client.client_id)).collect();
        self.model.look_up(cohort)
    }

    /// Makes everything staged durable, then answers and announces.
    pub(super) fn commit(&mut self) -> Checked {
        let outputs = self.running.engine.commit().map_err(broken)?;
        self.running.view.send_replace(self.running.engine.view());
        self.answer();
        for output in outputs {
            match output {
                Output::Push(session, push) => {
                    check::push(self.model, session, &push)?;
                    let Some(line) = self.running.service.line_of(session) else { continue };
                    match push {
                        Push::End(reason) => self.running.service.end(line, reason),
                        push => self.running.service.answers.push((line, Down::Push(push))),
                    }
                }
                Output::Step(task) => self.steps.push(*task),
            }
        }
        let compared = check::compare(&mut self.running.engine, self.model, &mut self.running.events);
        compared.map_err(|broken| self.explain(broken))?;
        self.staged.clear();
        Ok(())
    }

    fn explain(&self, Broken(why): Broken) -> Broken {
        Broken(format!("{why}\nin a transaction of {}", self.staged.join(", ")))
    }

    /// Gives the answers that waited.
    pub(super) fn answer(&mut self) {
        for (line, answer) in std::mem::take(&mut self.waiting) {
            let Some(line) = line else { continue };
            match answer {
                Answer::Session(session) => {
                    let client = self.wire.client(line).map_or(ClientId(u64::MAX), ClientId);
                    self.running.service.connected(line, client, session, self.wire.is_held(line, Way::Up));
                }
                Answer::Receipt(receipt) => self.running.service.answers.push((line, Down::Receipt(receipt))),
                Answer::Run(_) | Answer::Done => {}
            }
        }
    }
}

/// A command, without the adapters in it.
fn words(command: &Command) -> String {
    match command {
        Command::StartRun { .. } => "StartRun".to_owned(),
        Command::Step(outcome) => format!("Step of {}", outcome.round),
        other => format!("{other:?}"),
    }
}

pub(super) fn broken(error: EngineError) -> Broken {
    Broken(format!("the engine fails: {error}"))
}
