//! What must be true, written from the promises and not from the engine.
//!
//! * An update counts if it is the first one of an invited client, made for the open round, while that collects. It then
//!   counts for good: once, in this round. The same content again is told so; another content is refused.
//! * A round waits for whom it invited, but for those that answered or went away. It closes when it waits for nobody, when
//!   the target was reached and the grace is over, or at its deadline; with fewer than the minimum it fails. What is
//!   handed in at the very moment in which the coordinator sees that the time is over still counts.
//! * A round that was opened goes on, whatever happens to the coordinator: with the same clients, updates and deadline.
//!   The next one opens once it is published and enough clients are there.
//! * Time never goes back. A process that begins takes up the time of the last thing that was written down, or the
//!   clock's where that is later.
//!
//! Whom a round invites is a draw, so the model looks it up, once. It asks nothing else of the engine.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use fedlora_adapter::{Adapter, ClientId, Digest, RoundId};

use super::{
    round::{Round, Rules, Stage},
    trace::{Checked, promise},
};
use crate::{FailureReason, ReasonCode, RunId, RunStatus, SessionId, UpdateMeta, Verdict};

/// The run that is live.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) id: RunId,
    pub(super) done: RoundId,
    /// Who can be invited.
    pub(super) pool: BTreeSet<ClientId>,
    pub(super) round: Option<Round>,
    pub(super) global: Adapter,
}

/// What one session was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) client: ClientId,
    pub(super) run: Option<RunId>,
    pub(super) task: Option<(RunId, RoundId)>,
}

/// The model.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) rules: Rules,
    pub(super) now: u64,
    clock: u64,
    /// When something was last written down.
    pub(super) logged: u64,
    pub(super) sessions: BTreeMap<ClientId, SessionId>,
    pub(super) told: BTreeMap<SessionId, Told>,
    /// Who lost its session, and until when it counts as there.
    away: BTreeMap<ClientId, u64>,
    pub(super) live: Option<Live>,
    pub(super) over: BTreeMap<RunId, (RunStatus, RoundId)>,
    /// Every update that counts.
    pub(super) counted: BTreeMap<(RunId, RoundId, ClientId), UpdateMeta>,
    /// The first update of each client in each round that was refused, and why.
    refused: BTreeMap<(RunId, RoundId, ClientId), (Digest, ReasonCode)>,
    /// Whom every round invited.
    pub(super) cohorts: BTreeMap<(RunId, RoundId), BTreeSet<ClientId>>,
    /// The run that each of the operator's keys started.
    pub(super) keys: BTreeMap<String, RunId>,
    /// Every adapter that was published.
    pub(super) published: BTreeMap<(RunId, RoundId), Digest>,
}

/// A verdict with its reason.
pub(super) type Judgement = (Verdict, Option<ReasonCode>);

impl Model {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            now: 0,
            clock: 0,
            logged: 0,
            sessions: BTreeMap::new(),
            told: BTreeMap::new(),
            away: BTreeMap::new(),
            live: None,
            over: BTreeMap::new(),
            counted: BTreeMap::new(),
            refused: BTreeMap::new(),
            cohorts: BTreeMap::new(),
            keys: BTreeMap::new(),
            published: BTreeMap::new(),
        }
    }

    /// Somebody looked at the clock.
    pub(super) fn observe(&mut self, clock: u64) {
        self.now += clock.saturating_sub(self.clock);
        self.clock = clock;
    }

    /// A process began.
    pub(super) fn begin(&mut self, clock: u64) {
        (self.clock, self.now) = (clock, clock.max(self.logged));
        self.sessions.clear();
        self.told.clear();
        let end = self.now + self.rules.reconnect_ms;
        let expected = self.live.iter().flat_map(|live| {
            let cohort =
                live.round.iter().flat_map(|round| round.cohort.iter().flatten().filter(|c| round.awaits(**c)));
            live.pool.iter().chain(cohort)
        });
        self.away = expected.map(|client| (*client, end)).collect();
    }

    pub(super) fn start_run(&mut self, id: RunId, done: RoundId, global: Adapter) {
        let pool = self.sessions.keys().copied().collect();
        self.live = Some(Live { id, done, pool, round: None, global });
        self.written();
        self.advance();
    }

    pub(super) fn connect(&mut self, client: ClientId, session: SessionId) {
        self.sessions.insert(client, session);
        self.told.insert(session, Told { client, run: None, task: None });
        self.away.remove(&client);
        // A newcomer says nothing about the open round, so nobody looks at its clock.
        if self.live.as_mut().is_some_and(|live| live.pool.insert(client)) {
            self.written();
            self.open_next();
        }
    }

    pub(super) fn disconnect(&mut self, client: ClientId, session: SessionId) {
        if self.sessions.get(&client) == Some(&session) {
            self.sessions.remove(&client);
            if self.is_counted_on(client) {
                self.away.insert(client, self.now + self.rules.reconnect_ms);
            }
        }
    }

    fn is_counted_on(&self, client: ClientId) -> bool {
        self.live.as_ref().is_some_and(|live| {
            live.pool.contains(&client) || live.round.as_ref().is_some_and(|round| round.awaits(client))
        })
    }

    pub(super) fn decline(&mut self, client: ClientId, session: SessionId, number: RoundId) {
        let is_current = self.sessions.get(&client) == Some(&session);
        if let Some(round) = self.round_mut().filter(|round| is_current && round.number == number)
            && round.awaits(client)
        {
            round.declined.insert(client);
            round.gone.insert(client);
            self.written();
            self.advance();
        }
    }

    /// Time passed.
    pub(super) fn tick(&mut self) {
        let now = self.now;
        let expired: Vec<ClientId> = self.away.extract_if(.., |_, end| *end <= now).map(|(client, _)| client).collect();
        for client in expired.into_iter().filter(|client| self.is_counted_on(*client)).collect::<Vec<_>>() {
            if let Some(live) = &mut self.live {
                live.pool.remove(&client);
                if let Some(round) = &mut live.round {
                    round.gone.insert(client);
                }
            }
            self.written();
        }
        self.advance();
    }

    /// An update is handed in; with a flaw that was found before, or none.
    pub(super) fn submit(&mut self, update: &UpdateMeta, flaw: Option<ReasonCode>) -> Judgement {
        let first = self.counted.get(&(update.run, update.round, update.client)).map(|first| first.blob);
        let place = self.place(update);
        let judgement = match (first, place) {
            (Some(first), _) if flaw.is_none() => again(first == update.blob),
            (_, None) => (Verdict::Late, Some(ReasonCode::UnknownRun)),
            (_, Some(Ordering::Less)) => self.submit_to_past(update.client, flaw),
            (_, Some(Ordering::Equal)) => self.submit_here(update, flaw),
            (_, Some(Ordering::Greater)) => (Verdict::Late, Some(ReasonCode::FutureRound)),
        };
        if place == Some(Ordering::Equal) {
            self.advance();
        }
        judgement
    }

    /// Where an update's round is, as seen from the live run's open or last one; none for another run.
    fn place(&self, update: &UpdateMeta) -> Option<Ordering> {
        let live = self.live.as_ref().filter(|live| live.id == update.run)?;
        let place = live.round.as_ref().map(|round| update.round.cmp(&round.number));
        Some(place.unwrap_or(if update.round <= live.done { Ordering::Less } else { Ordering::Greater }))
    }

    /// Only a valid update shows that somebody came late.
    fn submit_to_past(&mut self, client: ClientId, flaw: Option<ReasonCode>) -> Judgement {
        if flaw.is_none() && self.round_mut().is_some_and(|round| round.late.insert(client)) {
            self.written();
            self.advance();
        }
        (Verdict::Late, Some(ReasonCode::StaleRound))
    }

    fn submit_here(&mut self, update: &UpdateMeta, flaw: Option<ReasonCode>) -> Judgement {
        let client = update.client;
        let Some(round) = self.round_mut() else { return (Verdict::Late, None) };
        let has_counted = round.accepted.contains_key(&client);
        let (judgement, is_news) = if !round.invites(client) {
            ((Verdict::NotInvited, Some(ReasonCode::NotInvited)), false)
        } else if round.stage != Stage::Collecting {
            ((Verdict::Late, Some(ReasonCode::StaleRound)), round.late.insert(client))
        } else if flaw.is_some() {
            ((Verdict::Rejected, flaw), !has_counted && round.rejected.insert(client))
        } else {
            round.rejected.remove(&client);
            round.accepted.insert(client, *update);
            ((Verdict::Accepted, None), true)
        };
        let key = (update.run, update.round, client);
        match judgement {
            (Verdict::Accepted, _) => drop(self.counted.insert(key, *update)),
            (Verdict::Rejected, Some(code)) if is_news => drop(self.refused.insert(key, (update.blob, code))),
            _ => {}
        }
        if is_news {
            self.written();
        }
        judgement
    }

    /// The answer to whoever asks what became of an update.
    pub(super) fn receipt(&self, client: ClientId, run: RunId, round: RoundId, blob: Digest) -> Option<Judgement> {
        let key = (run, round, client);
        if let Some(first) = self.counted.get(&key) {
            let is_same = first.blob == blob;
            return Some(if is_same { (Verdict::Accepted, None) } else { again(false) });
        }
        let refused = self.refused.get(&key).filter(|(first, _)| *first == blob);
        refused.map(|(_, code)| (Verdict::Rejected, Some(*code)))
    }

    /// The server step is done: the new adapter is this mean.
    pub(super) fn publish(&mut self, global: Adapter) {
        if let Some(live) = &mut self.live
            && let Some(round) = &mut live.round
        {
            (round.stage, live.done, live.global) = (Stage::Published, round.number, global);
            self.published.insert((live.id, live.done), live.global.digest());
        }
        self.written();
        self.advance();
    }

    fn written(&mut self) {
        self.logged = self.now;
    }

    fn round_mut(&mut self) -> Option<&mut Round> {
        self.live.as_mut()?.round.as_mut()
    }

    pub(super) fn round(&self) -> Option<&Round> {
        self.live.as_ref()?.round.as_ref()
    }

    /// What follows from the rules, after anything that concerns the run: a look at the clock is one such thing.
    fn advance(&mut self) {
        let (rules, now) = (self.rules, self.now);
        if let Some(round) = self.round_mut().filter(|round| round.stage == Stage::Collecting) {
            if round.accepted.len() >= rules.target {
                round.target_since.get_or_insert(now);
            }
            if round.is_due(&rules, now) {
                let (accepted, needed) = (round.accepted.len(), rules.minimum);
                round.stage = if accepted < needed { Stage::Failed } else { Stage::Closed };
                self.written();
                if accepted < needed {
                    self.end(RunStatus::Failed(FailureReason::TooFewResults { accepted, needed }));
                }
            }
        }
        self.open_next();
    }

    fn open_next(&mut self) {
        let (rules, now) = (self.rules, self.now);
        let Some(live) = &mut self.live else { return };
        if live.round.as_ref().is_some_and(|round| round.stage != Stage::Published) {
            return;
        }
        if live.done.0 >= rules.rounds {
            self.end(RunStatus::Completed);
        } else if live.pool.len() >= rules.available.max(rules.minimum) {
            live.round = Some(Round::open(live.done.next(), now));
            self.written();
        }
    }

    fn end(&mut self, status: RunStatus) {
        if let Some(live) = self.live.take() {
            self.over.insert(live.id, (status, live.done));
            self.written();
        }
    }

    /// For how long nothing happens by itself.
    pub(super) fn wait_ms(&self) -> Option<u64> {
        let round = self.round().filter(|round| round.stage == Stage::Collecting);
        let deadline = round.and_then(|round| Some(round.opened + self.rules.deadline_ms?));
        let grace_end = round.and_then(|round| Some(round.target_since? + self.rules.grace_ms));
        let first = deadline.into_iter().chain(grace_end).chain(self.away.values().copied()).min();
        first.map(|at| at.saturating_sub(self.now))
    }

    /// The draw of the round that opened; it is as large as it can be, and of clients that are there.
    pub(super) fn look_up(&mut self, cohort: BTreeSet<ClientId>) -> Checked {
        let invited = self.rules.invited;
        let Some(live) = &mut self.live else { return Ok(()) };
        let Some(round) = live.round.as_mut().filter(|round| round.cohort.is_none()) else { return Ok(()) };
        let expected = live.pool.len().min(invited);
        promise(cohort.len() == expected && cohort.is_subset(&live.pool), || {
            format!("{} invites {cohort:?}, {expected} of {:?} were to be invited", round.number, live.pool)
        })?;
        round.cohort = Some(cohort.clone());
        let key = (live.id, round.number);
        promise(self.cohorts.insert(key, cohort).is_none(), || format!("{}, {} opens again", key.0, key.1))
    }

    /// The task that a client must have been given.
    pub(super) fn task_of(&self, client: ClientId) -> Option<(RunId, RoundId)> {
        let live = self.live.as_ref()?;
        let round = live.round.as_ref().filter(|round| round.stage == Stage::Collecting)?;
        let is_open = !round.accepted.contains_key(&client) && !round.declined.contains(&client);
        (round.invites(client) && is_open).then_some((live.id, round.number))
    }
}

fn again(is_same: bool) -> Judgement {
    if is_same { (Verdict::Duplicate, None) } else { (Verdict::Conflict, Some(ReasonCode::AlreadySubmitted)) }
}
