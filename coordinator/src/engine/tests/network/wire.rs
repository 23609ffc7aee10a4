//! The network: lines between clients and the coordinator, and the weather on them.
//!
//! A line is one call or one stream. As over TCP, what is sent on it in one direction arrives in order and without gaps:
//! a message that is lost takes everything after it along, and each end notices some time later. Messages of different
//! lines overtake each other. A call can arrive twice, as behind a proxy that tries again by itself.

use std::{collections::BTreeMap, ops::RangeInclusive};

use rand::{Rng, RngExt};

/// Number of a line.
pub(super) type Line = u64;

/// Until a message arrives, in milliseconds.
const DELAY_MS: RangeInclusive<u64> = 1..=60;
/// Until an end notices that nothing comes any more: heartbeats and keep-alive pings without an answer.
const SILENCE_MS: RangeInclusive<u64> = 500..=30_000;
/// Until an end notices that the other one hung up.
const RESET_MS: RangeInclusive<u64> = 1..=200;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From a client to the coordinator.
    Up,
    /// From the coordinator to a client.
    Down,
}

impl Way {
    fn index(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives at this time.
    Arrives(u64),
    /// It is lost, and the line with it.
    Lost,
    /// Nobody is there to send or to take it.
    Gone,
}

/// One direction of a line.
#[derive(Debug, Clone, Copy, Default)]
struct Pipe {
    last_arrival: u64,
    takes_no_more: bool,
    delivers_no_more: bool,
}

#[derive(Debug)]
struct Cable {
    client: u64,
    pipes: [Pipe; 2],
    /// The line on which everything that goes up arrives a second time.
    echo: Option<Line>,
    /// Whether the end at the client, and the one at the coordinator, is still held.
    ends: [bool; 2],
    is_breaking: bool,
}

/// What is in the way of one client.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// Until when nothing passes, by direction.
    pub(super) blocked_until: [u64; 2],
    /// Messages to lose next, by direction.
    pub(super) losses: [u32; 2],
    /// The most that a message is late, and until when that is so.
    pub(super) late_ms: u64,
    pub(super) late_until: u64,
    /// The next call arrives twice.
    pub(super) is_doubled: bool,
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Wire {
    cables: BTreeMap<Line, Cable>,
    weather: BTreeMap<u64, Weather>,
    last: Line,
}

impl Wire {
    pub(super) fn weather(&mut self, client: u64) -> &mut Weather {
        self.weather.entry(client).or_default()
    }

    /// From now on everything gets through.
    pub(super) fn heal(&mut self) {
        self.weather.clear();
    }

    /// A new line of a client.
    pub(super) fn open(&mut self, client: u64) -> Line {
        let is_doubled = std::mem::take(&mut self.weather(client).is_doubled);
        let echo = is_doubled.then(|| self.lay(client, None, false));
        self.lay(client, echo, true)
    }

    /// A line on which nobody waits for an answer.
    pub(super) fn open_unheard(&mut self, client: u64) -> Line {
        self.lay(client, None, false)
    }

    fn lay(&mut self, client: u64, echo: Option<Line>, is_heard: bool) -> Line {
        self.last += 1;
        let cable = Cable { client, pipes: Default::default(), echo, ends: [is_heard, true], is_breaking: false };
        self.cables.insert(self.last, cable);
        self.last
    }

    pub(super) fn client(&self, line: Line) -> Option<u64> {
        self.cables.get(&line).map(|cable| cable.client)
    }

    pub(super) fn echo(&self, line: Line) -> Option<Line> {
        self.cables.get(&line)?.echo
    }

    /// Whether one end, that of the receiver of what goes this way, is held.
    pub(super) fn is_held(&self, line: Line, way: Way) -> bool {
        self.cables.get(&line).is_some_and(|cable| cable.ends[1 - way.index()])
    }

    /// Sends a message.
    pub(super) fn post(&mut self, line: Line, way: Way, now: u64, rng: &mut dyn Rng) -> Fate {
        let Some(cable) = self.cables.get_mut(&line) else { return Fate::Gone };
        let weather = self.weather.entry(cable.client).or_default();
        let pipe = &mut cable.pipes[way.index()];
        if pipe.takes_no_more {
            return Fate::Gone;
        }
        let losses = &mut weather.losses[way.index()];
        let is_lost = *losses > 0;
        *losses = losses.saturating_sub(1);
        if is_lost || now < weather.blocked_until[way.index()] {
            pipe.takes_no_more = true;
            return Fate::Lost;
        }
        let late_ms = if now < weather.late_until { rng.random_range(0..=weather.late_ms) } else { 0 };
        pipe.last_arrival = pipe.last_arrival.max(now + rng.random_range(DELAY_MS) + late_ms);
        Fate::Arrives(pipe.last_arrival)
    }

    /// Whether a message that is due gets through to somebody.
    pub(super) fn land(&mut self, line: Line, way: Way, now: u64) -> Fate {
        let Some(cable) = self.cables.get_mut(&line) else { return Fate::Gone };
        let weather = self.weather.entry(cable.client).or_default();
        let pipe = &mut cable.pipes[way.index()];
        if pipe.delivers_no_more || !cable.ends[1 - way.index()] {
            return Fate::Gone;
        }
        if now < weather.blocked_until[way.index()] {
            (pipe.takes_no_more, pipe.delivers_no_more) = (true, true);
            return Fate::Lost;
        }
        Fate::Arrives(now)
    }

    /// When the two ends notice that a line is dead; none if that is on its way already.
    pub(super) fn tear(&mut self, line: Line, now: u64, rng: &mut dyn Rng) -> Option<[u64; 2]> {
        let cable = self.cables.get_mut(&line).filter(|cable| !cable.is_breaking)?;
        cable.is_breaking = true;
        Some([(); 2].map(|()| now + rng.random_range(SILENCE_MS)))
    }

    /// One end lets go of a line; that of the sender of what goes this way. Returns when the other end notices.
    pub(super) fn let_go(&mut self, line: Line, way: Way, now: u64, rng: &mut dyn Rng) -> Option<u64> {
        let cable = self.cables.get_mut(&line)?;
        if !std::mem::replace(&mut cable.ends[way.index()], false) {
            return None;
        }
        cable.pipes[way.index()].takes_no_more = true;
        if !cable.ends[1 - way.index()] {
            self.cables.remove(&line);
            return None;
        }
        let is_blocked = now < self.weather.entry(cable.client).or_default().blocked_until[way.index()];
        // What was sent before arrives before.
        let first = cable.pipes[way.index()].last_arrival.max(now);
        Some(first + if is_blocked { rng.random_range(SILENCE_MS) } else { rng.random_range(RESET_MS) })
    }

    /// All lines.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.cables.keys().copied().collect()
    }
}
