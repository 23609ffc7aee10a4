//! The coordinator's one writer: it owns the live [`Run`](crate::Run), the store and the sessions.
//!
//! ```text
//! commands ──stage──> state + waiting records ──commit──> outputs (answers, pushes, server steps)
//! ```
//! Everything that changes a round is a record in an event log before anybody hears of it. Commands are *staged*: the
//! state changes and records collect; [`Engine::commit`] then makes all of them durable in one transaction and returns
//! what may be said now. Opening an engine loads the last snapshot, tells the run what came after it, finds the same
//! state and goes on with the same round.
//!
//! There is no clock, thread or runtime here: [`start`] puts an engine on a thread of its own. If a commit fails, what
//! was staged counts as not happened; the next command reads the state back from the store, as after a crash.

mod announce;
mod central;
mod clock;
mod command;
mod error;
mod handle;
mod kind;
mod live;
mod plan;
mod recover;
mod runs;
mod sessions;
mod steps;
mod thread;
mod updates;
mod views;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use fedlora_adapter::{Adapter, ClientId, Digest};
use fedlora_privacy::Origin;

pub use clock::{Clock, SystemClock};
pub use command::{Answer, Command, Control, Output};
pub use error::EngineError;
pub use handle::Handle;
pub(crate) use kind::EventKind;
pub use thread::{EngineThread, start};

use crate::{
    Blobs, CurrentRound, CurrentRun, DiskStore, PrivacyLimit, RoundStore, RunEvent, RunId, RunStatus, StepTask,
    StoreError, Timestamp,
    store::{LogEntry, Records},
};
use clock::SteadyTime;
use live::{Headline, Live};
use sessions::Sessions;
use steps::{RETRY_MS, Retry};

/// Name of the database in the state directory.
const DATABASE: &str = "coordinator.redb";

/// What an engine can be told beyond a run's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineSettings {
    /// For how long a client that lost its connection still counts as there, in milliseconds.
    pub reconnect_grace_ms: u64,
    /// Where the noise of central privacy comes from: in a simulation the run's seed, which protects nobody.
    pub noise: Origin,
    /// What all runs together may release; none for no limit.
    pub privacy_limit: Option<PrivacyLimit>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { reconnect_grace_ms: 30_000, noise: Origin::OperatingSystem, privacy_limit: None }
    }
}

/// What everybody may know without asking the engine.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The live run.
    pub run: Option<Arc<CurrentRun>>,
    /// The round that is collecting.
    pub round: Option<Arc<CurrentRound>>,
    /// The live run's global adapter.
    pub global: Option<Arc<Adapter>>,
    /// Clients with a session.
    pub connected: usize,
    /// Counts durable changes.
    pub changes: u64,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    records: Records,
    blobs: Blobs,
    settings: EngineSettings,
    time: SteadyTime,
    sessions: Sessions,
    drained: BTreeSet<ClientId>,
    live: Option<Live>,
    /// The last run that ended while this engine was there, for sessions that were told of it.
    over: Option<(RunId, RunStatus)>,
    /// Server steps to hand out once the round's close is durable.
    due: Vec<StepTask>,
    /// Contents that nothing names once the transaction is durable.
    forget: Vec<Digest>,
    retry: Option<Retry>,
    /// Whether the state must be read back before anything else.
    is_broken: bool,
    changes: u64,
}

impl Engine {
    /// Opens the state in a directory, or begins one, and goes on where it ended.
    ///
    /// # Errors
    /// A state that cannot be read or written, that another process uses, or that contradicts itself.
    pub fn open(state: &Path, settings: EngineSettings, now: Timestamp) -> Result<Self, EngineError> {
        std::fs::create_dir_all(state).map_err(StoreError::io(state))?;
        let store = DiskStore::open(&state.join(DATABASE))?;
        Self::new(Box::new(store), Blobs::open(state)?, settings, now)
    }

    /// An engine over any store.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn new(
        store: Box<dyn RoundStore>,
        blobs: Blobs,
        settings: EngineSettings,
        now: Timestamp,
    ) -> Result<Self, EngineError> {
        let mut engine = Self {
            records: Records::open(store)?,
            blobs,
            settings,
            time: SteadyTime::default(),
            sessions: Sessions::default(),
            drained: BTreeSet::new(),
            live: None,
            over: None,
            due: Vec::new(),
            forget: Vec::new(),
            retry: None,
            is_broken: false,
            changes: 0,
        };
        engine.load(now)?;
        engine.sweep()?;
        Ok(engine)
    }

    /// Does one command in a transaction of its own.
    ///
    /// # Errors
    /// The command is refused, or cannot be made durable; nothing has changed then.
    pub fn handle(&mut self, command: Command, now: Timestamp) -> Result<(Answer, Vec<Output>), EngineError> {
        let answer = self.stage(command, now)?;
        Ok((answer, self.commit()?))
    }

    /// Does a command up to the point where it has to be made durable. The answer must not be given before
    /// [`Engine::commit`] has succeeded.
    ///
    /// # Errors
    /// The command is refused; what was staged before stands, unless the engine [has lost its state](Self::is_broken).
    pub fn stage(&mut self, command: Command, now: Timestamp) -> Result<Answer, EngineError> {
        if self.is_broken {
            self.load(now)?;
        }
        let now = self.time.observe(now);
        match command {
            Command::Connect { client, examples } => self.connect(client, examples, now),
            Command::Disconnect { client, session } => {
                self.disconnect(client, session, now);
                Ok(Answer::Done)
            }
            Command::Progress { client, session, round, steps_done } => {
                self.sessions.progress(client, session, round, steps_done);
                Ok(Answer::Done)
            }
            Command::Decline { client, session, round, reason } => self.decline(client, session, round, &reason, now),
            Command::Submit(update) => self.submit(&update, now).map(Answer::Receipt),
            Command::Refuse(update, code, detail) => self.refuse(&update, code, detail, now).map(Answer::Receipt),
            Command::StartRun { config, model, key } => self.start_run(&config, *model, &key, now),
            Command::Restore { run, round } => self.restore(run, round, now),
            Command::Control { run, control } => self.control(run, control, now),
            Command::Drain(client) => self.drain(client, now),
            Command::Expel(client) => self.expel(client, now),
            Command::Step(outcome) => self.stepped(*outcome, now),
            Command::Tick => self.tick(now),
            Command::Shutdown => {
                self.sessions.end_all("draining");
                Ok(Answer::Done)
            }
        }
    }

    /// Makes everything staged durable, in one transaction, and says what may be told now.
    ///
    /// # Errors
    /// The store fails. What was staged has not happened as far as anybody was told, and the engine reads its state
    /// back before the next command.
    pub fn commit(&mut self) -> Result<Vec<Output>, EngineError> {
        if self.records.is_dirty() {
            if let Err(error) = self.records.commit() {
                self.lose();
                return Err(error.into());
            }
            self.changes += 1;
        }
        self.blobs.forget(std::mem::take(&mut self.forget));
        let mut outputs = self.announce();
        outputs.extend(std::mem::take(&mut self.due).into_iter().map(|task| Output::Step(Box::new(task))));
        Ok(outputs)
    }

    /// Whether what was staged since the last commit is lost and the state will be read back.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// How long the engine can be left alone, in milliseconds: then it wants a [`Command::Tick`]. `None` for as long as
    /// nothing else happens.
    #[must_use]
    pub fn wait_ms(&mut self, now: Timestamp) -> Option<u64> {
        let now = self.time.observe(now);
        if self.is_broken {
            return Some(RETRY_MS);
        }
        let round = self.live.as_ref().and_then(|live| live.run.round()?.wake_at());
        let retry = self.retry.filter(|retry| retry.is_due).map(|retry| retry.at);
        let first = round.into_iter().chain(retry).chain(self.sessions.first_grace_end()).min();
        first.map(|time| time.0.saturating_sub(now.0))
    }

    /// What everybody may know; as durable as the last commit.
    #[must_use]
    pub fn view(&self) -> View {
        let live = self.live.as_ref();
        View {
            run: live.map(|live| Arc::clone(&live.current)),
            round: live.and_then(Live::collecting).cloned(),
            global: live.map(|live| Arc::clone(&live.global)),
            connected: self.sessions.len(),
            changes: self.changes,
        }
    }

    /// The files.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Tells the live run something, and carries out what follows.
    fn tell(&mut self, event: RunEvent, headline: Headline, now: Timestamp) -> Result<live::Told, EngineError> {
        let Some(live) = &mut self.live else { return Ok(live::Told::default()) };
        let told = live.tell(&mut self.records, event, headline, now);
        let told = self.or_lose(told)?;
        self.follow(&told)?;
        Ok(told)
    }

    /// What the engine has to do about what a run did.
    fn follow(&mut self, told: &live::Told) -> Result<(), EngineError> {
        if told.has_closed {
            let task = self.step_task();
            let task = self.or_lose(task)?;
            self.due.extend(task);
        }
        if told.has_changed {
            self.sessions.announce_to_all();
        }
        self.forget.extend(&told.forget);
        if let Some(status) = told.finished {
            self.over = self.live.take().map(|live| (live.id, status));
            self.retry = None;
        }
        Ok(())
    }

    /// Gives up the state in memory where a record could not be read or staged halfway.
    fn or_lose<T>(&mut self, result: Result<T, StoreError>) -> Result<T, EngineError> {
        result.map_err(|error| {
            self.lose();
            error.into()
        })
    }

    fn lose(&mut self) {
        self.is_broken = true;
        self.due.clear();
        self.forget.clear();
        self.sessions.undo();
    }

    /// Adds an entry to the log that no run has to be told of again.
    fn log(&mut self, entry: LogEntry) -> Result<(), EngineError> {
        let logged = self.records.log(&entry);
        self.or_lose(logged)
    }

    fn tick(&mut self, now: Timestamp) -> Result<Answer, EngineError> {
        for client in self.sessions.take_expired(now) {
            self.leave(client, "disconnected", now)?;
        }
        self.tell(RunEvent::Round(crate::RoundEvent::Tick), Headline::none(), now)?;
        if let Some(retry) = self.retry.as_mut().filter(|retry| retry.is_due && now >= retry.at) {
            retry.is_due = false;
            let task = self.step_task();
            let task = self.or_lose(task)?;
            self.due.extend(task);
        }
        Ok(Answer::Done)
    }
}
