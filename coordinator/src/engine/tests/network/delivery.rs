//! Messages on their way, and lines that break.

use fedlora_adapter::ClientId;
use rand::RngExt;

use super::{
    client::{Client, Effect, Hands},
    message::{Down, Message, Up, counts},
    trace::{Checked, promise},
    wire::{Fate, Line, Way},
    world::{Event, World},
};
use crate::{Receipt, UpdateMeta, Verdict};

/// How long a call lasts on which nobody waits for an answer.
const UNHEARD_MS: std::ops::Range<u64> = 2_000..40_000;

impl World {
    /// Lets a client do something, and does what it wants done.
    pub(super) fn with_client(
        &mut self,
        place: usize,
        work: impl FnOnce(&mut Client, &mut Hands<'_>) -> Checked,
    ) -> Checked {
        let (rng, wire, contents) = (&mut *self.rng, &mut self.wire, &mut self.contents);
        let mut hands = Hands { rng, wire, contents, effects: Vec::new() };
        let client = &mut self.clients[place];
        let id = client.id;
        work(client, &mut hands)?;
        for effect in hands.effects {
            match effect {
                Effect::Send(line, up) => self.send_up(line, &up),
                Effect::LetGo(line) => self.let_go(line, Way::Up),
                Effect::Ring(wait_ms, bell) => self.schedule(self.now + wait_ms, Event::Ring(place, bell)),
                Effect::Say(words) => self.note(format!("{id} {words}")),
                Effect::Answered(update, receipt) => self.answered(&update, &receipt)?,
            }
        }
        Ok(())
    }

    /// A client knows what became of its update: it is so, and nothing valid was refused.
    fn answered(&mut self, update: &UpdateMeta, receipt: &Receipt) -> Checked {
        let UpdateMeta { client, run, round, blob, .. } = *update;
        self.note(format!("{client} knows of {round}: {:?}", receipt.verdict));
        let first = self.host.model.counted.get(&(run, round, client));
        let is_counted = first.is_some_and(|first| first.blob == blob);
        promise(is_counted || !counts(receipt), || {
            format!("{client} was told that its update of {round} counts, and it does not")
        })?;
        let is_refused = receipt.verdict == Verdict::Rejected && self.contents.is_valid(blob);
        promise(!is_refused, || format!("{client}: a valid update of {round} was refused: {receipt:?}"))
    }

    /// Sends from a client; what is doubled twice.
    pub(super) fn send_up(&mut self, line: Line, up: &Up) {
        self.post(line, Way::Up, Message::Up(up.clone()));
        let Some(echo) = self.wire.echo(line) else { return };
        if !matches!(up, Up::Chunk { .. } | Up::End | Up::Decline { .. }) {
            self.counts.add("doubled calls", 1);
            self.ends_unheard(echo);
        }
        self.post(echo, Way::Up, Message::Up(up.clone()));
    }

    /// A call on which nobody waits for an answer breaks some time.
    pub(super) fn ends_unheard(&mut self, line: Line) {
        let at = self.now + self.rng.random_range(UNHEARD_MS);
        self.schedule(at, Event::Lost(line, Way::Down));
    }

    pub(super) fn send_down(&mut self, line: Line, down: Down) {
        let is_last = down.is_last();
        match &down {
            Down::Receipt(receipt) => self.counts.add(verdict(receipt), 1),
            Down::Status { committed, receipt: None } if *committed > 0 => self.counts.add("resumed uploads", 1),
            _ => {}
        }
        self.post(line, Way::Down, Message::Down(down));
        if is_last {
            self.let_go(line, Way::Down);
        }
    }

    fn post(&mut self, line: Line, way: Way, message: Message) {
        match self.wire.post(line, way, self.now, &mut *self.rng) {
            Fate::Arrives(at) => self.schedule(at, Event::Land(line, message)),
            Fate::Lost => self.tear(line, &message),
            Fate::Gone => {}
        }
    }

    /// A message is lost, and its line with it.
    fn tear(&mut self, line: Line, message: &Message) {
        let client = self.wire.client(line).unwrap_or_default();
        match message {
            Message::Up(up) => self.note(format!("lost: client-{client} {up}")),
            Message::Down(down) => self.note(format!("lost: to client-{client}: {down}")),
        }
        self.counts.add(if matches!(message, Message::Up(_)) { "lost requests" } else { "lost answers" }, 1);
        if let Some([client_notices, coordinator_notices]) = self.wire.tear(line, self.now, &mut *self.rng) {
            self.schedule(client_notices, Event::Lost(line, Way::Up));
            self.schedule(coordinator_notices, Event::Lost(line, Way::Down));
        }
    }

    /// One end lets go of a line, the one that sends this way.
    pub(super) fn let_go(&mut self, line: Line, way: Way) {
        let other = if way == Way::Up { Way::Down } else { Way::Up };
        if let Some(at) = self.wire.let_go(line, way, self.now, &mut *self.rng) {
            self.schedule(at, Event::Lost(line, other));
        }
    }

    pub(super) fn land(&mut self, line: Line, message: Message) -> Checked {
        let way = if matches!(message, Message::Up(_)) { Way::Up } else { Way::Down };
        match (self.wire.land(line, way, self.now), message) {
            (Fate::Arrives(_), Message::Up(up)) => self.land_up(line, up),
            (Fate::Arrives(_), Message::Down(down)) => self.land_down(line, down)?,
            (Fate::Lost, message) => self.tear(line, &message),
            (Fate::Gone, _) => {}
        }
        Ok(())
    }

    fn land_up(&mut self, line: Line, up: Up) {
        let client = self.wire.client(line).unwrap_or_default();
        self.note(format!("client-{client} {up}"));
        self.counts.add("messages", 1);
        if let Up::Header(update) = &up {
            self.overheard.push(*update);
        }
        match &mut self.host.running {
            Some(running) => running.service.hear(line, ClientId(client), up),
            // Nobody listens.
            None => self.let_go(line, Way::Down),
        }
    }

    fn land_down(&mut self, line: Line, down: Down) -> Checked {
        let client = self.wire.client(line).unwrap_or_default();
        self.note(format!("to client-{client}: {down}"));
        self.counts.add("messages", 1);
        let is_last = down.is_last();
        self.with_client(client as usize, |client, hands| client.hear(line, down, hands))?;
        if is_last {
            self.let_go(line, Way::Up);
        }
        Ok(())
    }

    pub(super) fn client_lost(&mut self, line: Line) -> Checked {
        let Some(client) = self.wire.client(line).filter(|_| self.wire.is_held(line, Way::Down)) else { return Ok(()) };
        self.note(format!("client-{client} notices that a line is dead"));
        self.let_go(line, Way::Up);
        self.with_client(client as usize, |client, hands| client.lost(line, hands))
    }

    pub(super) fn coordinator_lost(&mut self, line: Line) {
        if !self.wire.is_held(line, Way::Up) {
            return;
        }
        self.let_go(line, Way::Down);
        self.host.running.iter_mut().for_each(|running| running.service.lost(line));
    }
}

/// Under which name a receipt is counted.
fn verdict(receipt: &Receipt) -> &'static str {
    match receipt.verdict {
        Verdict::Accepted => "receipts: accepted",
        Verdict::Duplicate => "receipts: duplicate",
        Verdict::Conflict => "receipts: conflict",
        Verdict::NotInvited => "receipts: not invited",
        Verdict::Late => "receipts: late",
        Verdict::Rejected => "receipts: rejected",
    }
}
