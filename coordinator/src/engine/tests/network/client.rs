//! A client as the real one behaves: it keeps one update in its outbox until there is a receipt, asks how far an upload
//! got, goes on from there, comes back to the same task, and lets go of one whose round is over.
//!
//! [`Client`] is the site: what lies on its disk, and the supervisor that starts the process again. [`Process`] is what
//! is lost when the process ends.

mod work;

use fedlora_adapter::{ClientId, Digest};
use rand::{Rng, RngExt};
use tonic::codegen::Bytes;

use super::{
    content::Contents,
    message::{Down, Up},
    process::{Process, Task, Work},
    trace::{Broken, Checked},
    wire::{Line, Wire},
};
use crate::{Push, Receipt, UpdateMeta};

/// The supervisor's pause before it starts a process that ended.
pub(super) const RESTART_MS: u64 = 5_000;

/// What a client works with.
pub(super) struct Hands<'a> {
    pub(super) rng: &'a mut dyn Rng,
    pub(super) wire: &'a mut Wire,
    pub(super) contents: &'a mut Contents,
    pub(super) effects: Vec<Effect>,
}

/// What a client wants done.
#[derive(Debug)]
pub(super) enum Effect {
    Send(Line, Up),
    LetGo(Line),
    /// After so many milliseconds.
    Ring(u64, Bell),
    Say(String),
    /// The client knows what became of its update.
    Answered(UpdateMeta, Receipt),
}

/// A timer; one of an earlier process or of earlier work means nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bell {
    Start { life: u64 },
    Connect { life: u64 },
    Work { life: u64, ticket: u64 },
}

/// How a client goes wrong; for tests of the test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Habit {
    #[default]
    Honest,
    /// Takes a broken call for an answer.
    Forgets,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) examples: u64,
    pub(super) habit: Habit,
    /// On its disk: the update that is on its way.
    outbox: Option<(UpdateMeta, Bytes)>,
    /// On its disk: an adapter, perhaps in part.
    downloaded: Option<(Digest, Vec<u8>)>,
    /// Counts processes.
    life: u64,
    process: Option<Process>,
    /// What the next training comes to.
    pub(super) is_spoilt: bool,
    pub(super) declines: bool,
    attempt: u64,
}

impl Client {
    pub(super) fn new(id: ClientId, habit: Habit) -> Self {
        Self {
            id,
            examples: 20 + 7 * id.0,
            habit,
            outbox: None,
            downloaded: None,
            life: 0,
            process: None,
            is_spoilt: false,
            declines: false,
            attempt: 0,
        }
    }

    /// Whether it is connected, and neither trains nor has an update to send. It may still ask for the adapter of a round
    /// that ended while it was away.
    pub(super) fn is_at_rest(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| process.stream.is_some() && matches!(process.work, Work::Idle | Work::Download(..)))
    }

    /// The process ends, at once; another one begins after a pause.
    pub(super) fn end(&mut self, pause_ms: u64, hands: &mut Hands<'_>) {
        if let Some(process) = self.process.take() {
            hands.effects.extend(process.stream.into_iter().chain(process.call()).map(Effect::LetGo));
        }
        self.life += 1;
        hands.effects.push(Effect::Ring(pause_ms, Bell::Start { life: self.life }));
    }

    /// Nothing is left on the disk: the site was installed anew, and trains differently from now on.
    pub(super) fn wipe(&mut self) {
        (self.outbox, self.downloaded) = (None, None);
        self.attempt += 1;
    }

    pub(super) fn ring(&mut self, bell: Bell, hands: &mut Hands<'_>) -> Checked {
        match bell {
            Bell::Start { life } if life == self.life && self.process.is_none() => {
                self.process = Some(Process::default());
                self.connect(hands);
            }
            Bell::Connect { life } if life == self.life => self.connect(hands),
            Bell::Work { life, ticket } if life == self.life => return self.work_on(ticket, hands),
            _ => {}
        }
        Ok(())
    }

    fn connect(&mut self, hands: &mut Hands<'_>) {
        let Some(process) = self.process.as_mut().filter(|process| process.stream.is_none()) else { return };
        let line = hands.wire.open(self.id.0);
        process.stream = Some(line);
        hands.effects.push(Effect::Send(line, Up::Hello { examples: self.examples }));
    }

    /// A message arrived on a line.
    pub(super) fn hear(&mut self, line: Line, down: Down, hands: &mut Hands<'_>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        if matches!(down, Down::Failed("superseded")) && process_has(process, line) {
            hands.effects.push(Effect::Say("ends: another process has the same identity".to_owned()));
            self.end(RESTART_MS, hands);
        } else if process.stream == Some(line) {
            match down {
                Down::Welcome => process.stream_failures = 0,
                Down::Push(push) => hear_push(process, push)?,
                _ => self.stream_lost(hands),
            }
        } else if process.call() == Some(line) {
            self.hear_call(down, hands)?;
        }
        self.go_on(hands)
    }

    /// A line broke.
    pub(super) fn lost(&mut self, line: Line, hands: &mut Hands<'_>) -> Checked {
        let Some(process) = &self.process else { return Ok(()) };
        if process.stream == Some(line) {
            self.stream_lost(hands);
        } else if process.call() == Some(line) {
            self.call_failed(hands);
        }
        self.go_on(hands)
    }

    fn stream_lost(&mut self, hands: &mut Hands<'_>) {
        let Some(process) = &mut self.process else { return };
        (process.stream, process.run) = (None, None);
        let wait_ms = backoff(&mut process.stream_failures, hands.rng);
        hands.effects.push(Effect::Ring(wait_ms, Bell::Connect { life: self.life }));
    }
}

fn process_has(process: &Process, line: Line) -> bool {
    process.stream == Some(line) || process.call() == Some(line)
}

fn hear_push(process: &mut Process, push: Push) -> Checked {
    match push {
        Push::Run(run) => process.run = Some(run),
        Push::Task(round) => {
            let Some(run) = process.run.clone().filter(|run| run.id == round.run) else {
                return Err(Broken(format!("a task of {}, which was not announced", round.run)));
            };
            process.offer(Task { run, round });
        }
        Push::RoundClosed(run, round) => process.closed(run, round),
        Push::RunFinished(..) => process.run_over(),
        Push::End(_) => {}
    }
    Ok(())
}

/// Exponential with full jitter: half a second on average at first, up to 30 seconds.
fn backoff(failures: &mut u32, rng: &mut dyn Rng) -> u64 {
    let limit_ms = (1_000_u64 << (*failures).min(5)).min(30_000);
    *failures += 1;
    rng.random_range(0..limit_ms)
}
