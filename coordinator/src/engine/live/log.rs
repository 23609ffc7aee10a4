//! What a change of a run leaves in the log, and what it means to the engine.

use fedlora_adapter::{ClientId, Digest, RoundId};

use crate::{
    RunEvent, RunId, RunStatus, StoreError, Timestamp, Verdict,
    engine::EventKind,
    store::{LogEntry, Records},
};

/// The entry of the log that an event leaves whatever follows from it; none for one that changes nothing by itself.
#[derive(Debug, Default)]
pub(crate) struct Headline {
    pub(super) kind: Option<EventKind>,
    pub(super) client: Option<ClientId>,
    pub(super) detail: String,
}

impl Headline {
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn new(kind: EventKind) -> Self {
        Self { kind: Some(kind), client: None, detail: String::new() }
    }

    pub(crate) fn client(self, client: ClientId) -> Self {
        Self { client: Some(client), ..self }
    }

    pub(crate) fn detail(self, detail: String) -> Self {
        Self { detail, ..self }
    }
}

/// What came of telling a run something.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) verdict: Option<Verdict>,
    /// The list of clients is frozen: the server step is due.
    pub(crate) has_closed: bool,
    /// A round opened, closed or ended.
    pub(crate) has_changed: bool,
    pub(crate) finished: Option<RunStatus>,
    /// Update files that nothing needs any more.
    pub(crate) forget: Vec<Digest>,
}

/// Entries that belong to one event: the first of them carries it.
pub(super) struct Log<'a> {
    pub(super) records: &'a mut Records,
    pub(super) run: RunId,
    pub(super) round: RoundId,
    pub(super) now: Timestamp,
    pub(super) input: Option<RunEvent>,
}

impl Log<'_> {
    pub(super) fn add(&mut self, kind: EventKind, client: Option<ClientId>, detail: String) -> Result<(), StoreError> {
        let input = self.input.take();
        self.records.log(&LogEntry { time: self.now, run: self.run, round: self.round, client, kind, detail, input })
    }
}
