//! What goes wrong, by the dice.

use rand::RngExt;

use super::{
    client::RESTART_MS,
    host::Crash,
    message::Up,
    service::Ask,
    trace::Checked,
    world::{Event, World},
};
use crate::{RunId, UpdateMeta};

/// Between two faults.
const BETWEEN_MS: std::ops::Range<u64> = 200..5_000;
/// How long a partition or a slow line lasts.
const LASTS_MS: std::ops::Range<u64> = 500..25_000;
/// A machine that was never enrolled as any of the clients.
const STRANGER: u64 = 99;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Nothing passes in some direction.
    Partition {
        up: bool,
        down: bool,
    },
    LoseRequest,
    LoseAnswer,
    Slow,
    Double,
    Bounce {
        loses_power: bool,
    },
    /// Ends the coordinator within its next transaction, or within the next one with an update.
    CrashIn(Crash, bool),
    EndClient,
    /// The client's disk is lost too.
    WipeClient,
    /// The coordinator's clock is set, by so many milliseconds.
    Jump(i64),
    /// An update that was sent before is sent again, by somebody else.
    Replay,
    /// The same, with something changed.
    Forge,
    /// The engine itself is handed in an update once more, of a client of which one counts in that round.
    Resubmit,
    /// The next training comes to nothing, or to no numbers.
    Decline,
    Spoil,
}

impl World {
    pub(super) fn fault(&mut self) -> Checked {
        let place = self.rng.random_range(0..self.clients.len());
        let fault = self.draw();
        let id = self.clients[place].id;
        self.note(format!("## {fault:?} ({id})"));
        self.counts.add("operations", 1);
        self.faults_left -= 1;
        let at = self.now + self.rng.random_range(BETWEEN_MS);
        self.schedule(at, if self.faults_left > 0 { Event::Fault } else { Event::Heal });
        self.strike(fault, place)
    }

    fn draw(&mut self) -> Fault {
        match self.rng.random_range(0..100) {
            0..16 => match self.rng.random_range(0..3) {
                0 => Fault::Partition { up: true, down: true },
                1 => Fault::Partition { up: true, down: false },
                _ => Fault::Partition { up: false, down: true },
            },
            16..27 => Fault::LoseRequest,
            27..40 => Fault::LoseAnswer,
            40..47 => Fault::Slow,
            47..55 => Fault::Double,
            55..62 => Fault::Bounce { loses_power: self.rng.random() },
            62..66 => Fault::CrashIn(Crash::BeforeCommit, self.rng.random()),
            66..70 => Fault::CrashIn(Crash::AfterCommit, self.rng.random()),
            70..77 => Fault::EndClient,
            77..79 => Fault::WipeClient,
            79..84 => Fault::Jump(self.rng.random_range(-40_000..40_000)),
            84..86 => Fault::Jump(if self.rng.random() { 3_600_000 } else { -3_600_000 }),
            86..90 => Fault::Replay,
            90..93 => Fault::Forge,
            93..96 => Fault::Resubmit,
            96..98 => Fault::Decline,
            _ => Fault::Spoil,
        }
    }

    fn strike(&mut self, fault: Fault, place: usize) -> Checked {
        let client = self.clients[place].id.0;
        match fault {
            Fault::Partition { up, down } => self.part(client, [up, down]),
            Fault::LoseRequest => self.wire.weather(client).losses[0] += 1,
            Fault::LoseAnswer => self.wire.weather(client).losses[1] += 1,
            Fault::Slow => {
                let until = self.now + self.rng.random_range(LASTS_MS);
                let late_ms = self.rng.random_range(100..6_000);
                let weather = self.wire.weather(client);
                (weather.late_ms, weather.late_until) = (late_ms, until);
            }
            Fault::Double => self.wire.weather(client).is_doubled = true,
            Fault::Bounce { loses_power } if self.host.running.is_some() => self.fall(loses_power),
            Fault::CrashIn(crash, with_update) => {
                self.host.crash = self.host.running.as_ref().map(|_| (crash, with_update));
            }
            Fault::EndClient | Fault::WipeClient => return self.end_client(place, matches!(fault, Fault::WipeClient)),
            Fault::Jump(jump_ms) => {
                self.counts.add("clock jumps", 1);
                self.ahead_ms += jump_ms;
            }
            Fault::Replay => self.replay(false),
            Fault::Forge => self.replay(true),
            Fault::Resubmit => self.resubmit(),
            Fault::Decline => self.clients[place].declines = true,
            Fault::Spoil => self.clients[place].is_spoilt = true,
            Fault::Bounce { .. } => {}
        }
        Ok(())
    }

    fn part(&mut self, client: u64, ways: [bool; 2]) {
        self.counts.add("partitions", 1);
        let until = self.now + self.rng.random_range(LASTS_MS);
        let weather = self.wire.weather(client);
        for (blocked, is_hit) in weather.blocked_until.iter_mut().zip(ways) {
            *blocked = if is_hit { until.max(*blocked) } else { *blocked };
        }
    }

    fn end_client(&mut self, place: usize, is_wiped: bool) -> Checked {
        self.counts.add("client restarts", 1);
        let pause_ms = self.rng.random_range(100..3 * RESTART_MS);
        self.with_client(place, |client, hands| {
            client.end(pause_ms, hands);
            if is_wiped {
                client.wipe();
            }
            Ok(())
        })
    }

    /// Sends an old update once more, whole, on a line of its own.
    fn replay(&mut self, is_forged: bool) {
        if self.overheard.is_empty() {
            return;
        }
        let place = self.rng.random_range(0..self.overheard.len());
        let original = self.overheard[place];
        let update = if is_forged { self.forge(original) } else { original };
        self.counts.add("replayed and forged updates", 1);
        let line = self.wire.open_unheard(update.client.0);
        self.send_up(line, &Up::Header(update));
        self.send_up(line, &Up::Chunk { offset: 0, data: self.contents.file(update.blob) });
        self.send_up(line, &Up::End);
        self.ends_unheard(line);
    }

    fn resubmit(&mut self) {
        let counted = &self.host.model.counted;
        let of_who_counts = |update: &&UpdateMeta| counted.contains_key(&(update.run, update.round, update.client));
        let known: Vec<UpdateMeta> = self.overheard.iter().filter(of_who_counts).copied().collect();
        let Some(running) = self.host.running.as_mut().filter(|_| !known.is_empty()) else { return };
        let update = known[self.rng.random_range(0..known.len())];
        running.service.asks.push(Ask::Submit(self.wire.open_unheard(update.client.0), update));
    }

    /// An update under a stranger's name, or for another round or run.
    fn forge(&mut self, update: UpdateMeta) -> UpdateMeta {
        let mut forged = update;
        match self.rng.random_range(0..4) {
            0 => forged.client.0 = STRANGER,
            1 => forged.round.0 += 1,
            2 => forged.round.0 -= 1,
            _ => forged.run = RunId(update.run.0 + 1),
        }
        forged
    }

    /// Everything works again, for good.
    pub(super) fn heal(&mut self) {
        self.note("## the network is whole");
        self.wire.heal();
        self.host.crash = None;
        for client in &mut self.clients {
            (client.declines, client.is_spoilt) = (false, false);
        }
        self.healed = Some(self.now);
    }
}
