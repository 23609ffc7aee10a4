//! A client's task, from the adapter to the receipt.

use std::ops::RangeInclusive;

use fedlora_adapter::{Digest, decode_adapter};
use rand::RngExt;

use super::{Bell, Client, Effect, Habit, Hands, RESTART_MS, backoff};
use crate::{
    Receipt,
    engine::tests::network::{
        content::Training,
        message::{Down, Up},
        process::{Call, Key, Task, Work},
        trace::{Checked, promise},
        wire::Line,
    },
};

/// How long training takes.
const TRAINING_MS: RangeInclusive<u64> = 200..=6_000;
/// Between the messages of an upload: slow, so that much happens in the middle of one.
const PACE_MS: RangeInclusive<u64> = 1..=400;
/// Bytes sent at a time: an update takes several messages.
const CHUNK: usize = 300;

impl Client {
    /// A message on the line of the call under way.
    pub(super) fn hear_call(&mut self, down: Down, hands: &mut Hands<'_>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        match (&process.work, down) {
            (Work::Download(..), Down::Bytes { offset, data }) => {
                let Some((_, bytes)) = &mut self.downloaded else { return Ok(()) };
                promise(bytes.len() == offset, || format!("{} got bytes from {offset}, not what follows", self.id))?;
                bytes.extend_from_slice(&data);
            }
            (Work::Download(task, _), Down::Done) => {
                let task = task.clone();
                self.fetch(task, hands)?;
            }
            (Work::Upload(_), Down::Status { receipt: Some(receipt), .. } | Down::Receipt(receipt)) => {
                self.answered(receipt, hands);
            }
            (Work::Upload(Call::Asking(_)), Down::Status { committed, receipt: None }) => self.send(committed, hands),
            _ => self.call_failed(hands),
        }
        Ok(())
    }

    /// Does what is possible now.
    pub(super) fn go_on(&mut self, hands: &mut Hands<'_>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        if process.is_unwanted() {
            hands.effects.push(Effect::Say("lets go of a task that nobody wants any more".to_owned()));
            hands.effects.extend(process.call().map(Effect::LetGo));
            self.let_go();
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        if !matches!(process.work, Work::Idle) {
            return Ok(());
        }
        let Some(task) = process.take() else { return Ok(()) };
        let key = Key::of(&task.round);
        if self.outbox.as_ref().is_some_and(|(update, _)| Key::of_update(update) == key) {
            self.ask(hands);
            return Ok(());
        }
        self.outbox = None;
        self.downloaded.take_if(|(blob, _)| *blob != task.round.blob);
        self.fetch(task, hands)
    }

    /// Drops the work, and the update if it was on its way.
    fn let_go(&mut self) {
        let Some(process) = &mut self.process else { return };
        match std::mem::take(&mut process.work) {
            Work::Upload(_) => {
                if let Some((update, _)) = self.outbox.take() {
                    process.finished(Key::of_update(&update));
                }
            }
            _ => process.work = Work::Idle,
        }
    }

    /// Gets what is missing of a task's adapter; trains if nothing is.
    fn fetch(&mut self, task: Task, hands: &mut Hands<'_>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        let (blob, size) = (task.round.blob, task.round.blob_bytes);
        let (_, bytes) = self.downloaded.get_or_insert((blob, Vec::new()));
        if bytes.len() as u64 == size {
            let expected = || format!("{} was given another adapter than {}", self.id, task.round.plan.round);
            promise(Digest::of(bytes) == blob, expected)?;
            process.work = Work::Train(task);
            self.set_timer(TRAINING_MS, hands);
            return Ok(());
        }
        let line = hands.wire.open(self.id.0);
        hands.effects.push(Effect::Send(line, Up::Fetch { blob, offset: bytes.len() }));
        process.work = Work::Download(task, Some(line));
        Ok(())
    }

    fn set_timer(&mut self, wait_ms: RangeInclusive<u64>, hands: &mut Hands<'_>) {
        let Some(process) = &mut self.process else { return };
        process.ticket += 1;
        let bell = Bell::Work { life: self.life, ticket: process.ticket };
        hands.effects.push(Effect::Ring(hands.rng.random_range(wait_ms), bell));
    }

    /// The timer for the work rings.
    pub(super) fn work_on(&mut self, ticket: u64, hands: &mut Hands<'_>) -> Checked {
        let Some(process) = self.process.as_mut().filter(|process| process.ticket == ticket) else { return Ok(()) };
        match &process.work {
            Work::Download(task, None) => {
                let task = task.clone();
                self.fetch(task, hands)?;
            }
            Work::Train(task) => {
                let task = task.clone();
                self.trained(&task, hands)?;
            }
            Work::Upload(Call::Waiting) => self.ask(hands),
            Work::Upload(Call::Sending(line, offset)) => {
                let (line, offset) = (*line, *offset);
                self.send_next(line, offset, hands);
            }
            _ => {}
        }
        Ok(())
    }

    /// Training is over: the update is written down, then sent.
    fn trained(&mut self, task: &Task, hands: &mut Hands<'_>) -> Checked {
        if std::mem::take(&mut self.declines) {
            let stream = self.process.as_ref().and_then(|process| process.stream);
            hands.effects.extend(stream.map(|line| Effect::Send(line, Up::Decline { round: task.round.plan.round })));
            self.end(RESTART_MS, hands);
            return Ok(());
        }
        let Some((_, bytes)) = &self.downloaded else { return Ok(()) };
        let global = decode_adapter(bytes, &task.run.spec, task.round.plan.base);
        promise(global.is_ok(), || format!("{} cannot use the adapter of {}", self.id, task.round.plan.round))?;
        let training = Training { attempt: self.attempt, is_spoilt: std::mem::take(&mut self.is_spoilt) };
        let made = global.map(|global| hands.contents.train(self.id, self.examples, &task.round, &global, training));
        self.outbox = made.ok();
        self.ask(hands);
        Ok(())
    }

    fn ask(&mut self, hands: &mut Hands<'_>) {
        let (Some(process), Some((update, _))) = (&mut self.process, &self.outbox) else { return };
        let line = hands.wire.open(self.id.0);
        let status = Up::Status { run: update.run, round: update.round, blob: update.blob };
        hands.effects.push(Effect::Send(line, status));
        process.work = Work::Upload(Call::Asking(line));
    }

    fn send(&mut self, committed: u64, hands: &mut Hands<'_>) {
        let (Some(process), Some((update, _))) = (&mut self.process, &self.outbox) else { return };
        let line = hands.wire.open(self.id.0);
        hands.effects.push(Effect::Send(line, Up::Header(*update)));
        process.work = Work::Upload(Call::Sending(line, committed.min(update.size_bytes) as usize));
        self.set_timer(PACE_MS, hands);
    }

    fn send_next(&mut self, line: Line, offset: usize, hands: &mut Hands<'_>) {
        let (Some(process), Some((_, file))) = (&mut self.process, &self.outbox) else { return };
        if offset == file.len() {
            hands.effects.push(Effect::Send(line, Up::End));
            process.work = Work::Upload(Call::AllSent(line));
            return;
        }
        let end = (offset + CHUNK).min(file.len());
        let chunk = Up::Chunk { offset: offset as u64, data: file.slice(offset..end) };
        hands.effects.push(Effect::Send(line, chunk));
        process.work = Work::Upload(Call::Sending(line, end));
        self.set_timer(PACE_MS, hands);
    }

    fn answered(&mut self, receipt: Receipt, hands: &mut Hands<'_>) {
        if let (Some(process), Some((update, _))) = (&mut self.process, self.outbox.take()) {
            process.finished(Key::of_update(&update));
            hands.effects.push(Effect::Answered(update, receipt));
        }
    }

    /// The call broke: another one is made after a while.
    pub(super) fn call_failed(&mut self, hands: &mut Hands<'_>) {
        let Some(process) = &mut self.process else { return };
        let wait_ms = backoff(&mut process.failures, hands.rng);
        match &mut process.work {
            Work::Download(_, line) => *line = None,
            Work::Upload(_) if self.habit == Habit::Forgets => return self.let_go(),
            Work::Upload(call) => *call = Call::Waiting,
            Work::Idle | Work::Train(_) => return,
        }
        self.set_timer(wait_ms..=wait_ms, hands);
    }
}
