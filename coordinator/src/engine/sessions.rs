//! Who is connected, and who may still come back.

use std::collections::{BTreeMap, btree_map::Entry};

use fedlora_adapter::{ClientId, RoundId};

use crate::{RunId, SessionId, Timestamp};

/// A client's open session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// The run that the client was told of.
    pub(super) run: Option<RunId>,
    /// The round that the client was given work for, since it connected or the time before.
    pub(super) task: Option<(RunId, RoundId)>,
    /// The round being trained and the steps done in it.
    pub(super) progress: Option<(RoundId, u64)>,
    /// Nothing has been said to it yet.
    pub(super) is_new: bool,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    last: u64,
    open: BTreeMap<ClientId, Session>,
    away: BTreeMap<ClientId, Timestamp>,
    /// Sessions that opened since the last commit, and what was there before.
    undo: Vec<(ClientId, Option<Session>)>,
    /// Sessions to be ended, and why.
    ended: Vec<(SessionId, &'static str)>,
    announce_all: bool,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.open.keys().copied()
    }

    pub(super) fn get(&self, client: ClientId) -> Option<&Session> {
        self.open.get(&client)
    }

    pub(super) fn is_current(&self, client: ClientId, session: SessionId) -> bool {
        self.open.get(&client).is_some_and(|open| open.id == session)
    }

    /// Opens a session; an older one of the client ends.
    pub(super) fn open(&mut self, client: ClientId) -> SessionId {
        self.last += 1;
        let id = SessionId(self.last);
        let old = self.open.remove(&client);
        let task = old.as_ref().and_then(|old| old.task);
        self.ended.extend(old.as_ref().map(|old| (old.id, "superseded")));
        self.open.insert(client, Session { id, run: None, task, progress: None, is_new: true });
        self.away.remove(&client);
        self.undo.push((client, old));
        id
    }

    /// Closes a session, if it is the client's present one.
    pub(super) fn close(&mut self, client: ClientId, session: SessionId) -> bool {
        match self.open.entry(client) {
            Entry::Occupied(open) if open.get().id == session => {
                open.remove();
                true
            }
            _ => false,
        }
    }

    /// Ends a client's session for a reason.
    pub(super) fn end(&mut self, client: ClientId, reason: &'static str) {
        self.away.remove(&client);
        self.ended.extend(self.open.remove(&client).map(|open| (open.id, reason)));
    }

    pub(super) fn end_all(&mut self, reason: &'static str) {
        self.ended.extend(std::mem::take(&mut self.open).into_values().map(|open| (open.id, reason)));
    }

    /// Gives a client without a session until `end` to come back; a time given before stands.
    pub(super) fn await_return(&mut self, client: ClientId, end: Timestamp) {
        if !self.open.contains_key(&client) {
            self.away.entry(client).or_insert(end);
        }
    }

    pub(super) fn first_grace_end(&self) -> Option<Timestamp> {
        self.away.values().copied().min()
    }

    /// Clients that did not come back in time.
    pub(super) fn take_expired(&mut self, now: Timestamp) -> Vec<ClientId> {
        self.away.extract_if(.., |_, end| *end <= now).map(|(client, _)| client).collect()
    }

    pub(super) fn progress(&mut self, client: ClientId, session: SessionId, round: RoundId, steps_done: u64) {
        if let Some(open) = self.open.get_mut(&client).filter(|open| open.id == session) {
            open.progress = Some((round, steps_done));
        }
    }

    /// Everybody may have something to hear.
    pub(super) fn announce_to_all(&mut self) {
        self.announce_all = true;
    }

    /// Takes back the sessions that opened since the last commit: their clients were refused.
    pub(super) fn undo(&mut self) {
        for (client, old) in std::mem::take(&mut self.undo).into_iter().rev() {
            match old {
                Some(old) => drop(self.open.insert(client, old)),
                None => drop(self.open.remove(&client)),
            }
        }
        self.ended.retain(|(_, reason)| *reason != "superseded");
    }

    /// Sessions that end, and those to which something may have to be said.
    pub(super) fn take_news(&mut self) -> (Vec<(SessionId, &'static str)>, Vec<ClientId>) {
        let everybody = std::mem::take(&mut self.announce_all);
        let opened = std::mem::take(&mut self.undo);
        let clients = if everybody {
            self.open.keys().copied().collect()
        } else {
            opened.into_iter().map(|(client, _)| client).collect()
        };
        (std::mem::take(&mut self.ended), clients)
    }

    pub(super) fn get_mut(&mut self, client: ClientId) -> Option<&mut Session> {
        self.open.get_mut(&client)
    }
}
