//! What the service's streams read: events, metrics, and the round that is open.

use std::collections::BTreeMap;

use fedlora_adapter::RoundId;
use fedlora_proto::operator::{ClientRequest, Event, RoundDetail, RoundMetrics};
use tonic::{Code, Status};

use super::{
    follow::{Batch, Source},
    if_any,
    parts::{OperatorEngine, OperatorRegistry},
};
use crate::RunId;

/// Events read at once.
const EVENTS: usize = 256;

/// The log of events.
pub(super) struct Events<E> {
    pub(super) engine: E,
    /// Number of the last event given.
    pub(super) after: u64,
}

impl<E: OperatorEngine> Source for Events<E> {
    type Item = Event;

    async fn next(&mut self) -> Result<Batch<Event>, Status> {
        let items = self.engine.events(self.after, EVENTS).await?;
        self.after = items.last().map_or(self.after, |event| event.number);
        Ok(Batch { items, over: false })
    }
}

/// Metrics of finished rounds: of one run to its end, or of the live run and those that follow it.
pub(super) struct Metrics<E> {
    engine: E,
    /// The run asked for.
    wanted: Option<RunId>,
    /// The run being given.
    run: Option<RunId>,
    /// Its last round given.
    after_round: u64,
}

impl<E: OperatorEngine> Metrics<E> {
    pub(super) fn new(engine: E, wanted: Option<RunId>, after_round: u64) -> Self {
        Self { engine, wanted, run: wanted, after_round }
    }
}

impl<E: OperatorEngine> Source for Metrics<E> {
    type Item = RoundMetrics;

    async fn next(&mut self) -> Result<Batch<RoundMetrics>, Status> {
        loop {
            // Read before the metrics: a run that is over by now has all of them.
            let live = self.engine.run().map(|run| run.id);
            let run = self.run.or(live);
            let items = if_any(self.engine.metrics(run, self.after_round).await, run)?;
            if let Some(last) = items.last().and_then(|metrics| metrics.summary.as_ref()) {
                (self.run, self.after_round) = (Some(RunId(last.run_id)), last.round);
                return Ok(Batch { items, over: false });
            }
            if self.wanted.is_none() && live.is_some() && self.run.is_some() && live != self.run {
                (self.run, self.after_round) = (live, 0);
                continue;
            }
            return Ok(Batch { items, over: self.wanted.is_some() && self.wanted != live });
        }
    }
}

/// The open round of the live run, whenever it changes; over with the run. Without a live run it waits for one.
pub(super) struct Rounds<E, R> {
    engine: E,
    names: Names<R>,
    run: Option<RunId>,
    last: Option<RoundDetail>,
}

impl<E: OperatorEngine, R: OperatorRegistry> Rounds<E, R> {
    pub(super) fn new(engine: E, registry: R) -> Self {
        Self { engine, names: Names::new(registry), run: None, last: None }
    }

    /// A round with names, unless it was the last one given.
    async fn changed(&self, run: RunId, round: Option<RoundId>) -> Result<Option<RoundDetail>, Status> {
        match self.engine.round_detail(Some(run), round).await {
            Ok(detail) => Ok((self.last.as_ref() != Some(&detail)).then_some(detail)),
            // The run waits for clients before its first round.
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// The rounds between the last one given and this one, so that each is seen to end.
    async fn missed(&self, run: RunId, until: u64) -> Result<Vec<RoundDetail>, Status> {
        let mut missed = Vec::new();
        for round in number(self.last.as_ref()).unwrap_or(until)..until {
            missed.extend(self.changed(run, Some(RoundId(round))).await?);
        }
        Ok(missed)
    }
}

impl<E: OperatorEngine, R: OperatorRegistry> Source for Rounds<E, R> {
    type Item = RoundDetail;

    async fn next(&mut self) -> Result<Batch<RoundDetail>, Status> {
        // Read before the round: the round of a run that is over by now is final.
        let live = self.engine.run().map(|run| run.id);
        self.run = self.run.or(live);
        let Some(run) = self.run else {
            // Asked only so that a stream that still waits for a run ends with an engine that stops.
            if_any(self.engine.rounds(None, 1).await, None)?;
            return Ok(Batch { items: Vec::new(), over: false });
        };
        let mut items = Vec::new();
        if let Some(detail) = self.changed(run, None).await? {
            items = self.missed(run, number(Some(&detail)).unwrap_or_default()).await?;
            items.push(detail);
        }
        // Kept without names, to be compared with what the engine says next.
        self.last = items.last().cloned().or(self.last.take());
        for detail in &mut items {
            self.names.fill(detail);
        }
        Ok(Batch { items, over: live != Some(run) })
    }
}

fn number(detail: Option<&RoundDetail>) -> Option<u64> {
    detail.and_then(|detail| detail.summary.as_ref()).map(|summary| summary.round)
}

/// Names of clients, each looked up once: a number keeps its name.
pub(super) struct Names<R> {
    registry: R,
    known: BTreeMap<u64, String>,
}

impl<R: OperatorRegistry> Names<R> {
    pub(super) fn new(registry: R) -> Self {
        Self { registry, known: BTreeMap::new() }
    }

    /// Writes the clients' names into a round; a client that the registry lost keeps an empty one.
    pub(super) fn fill(&mut self, detail: &mut RoundDetail) {
        for client in &mut detail.clients {
            let request = ClientRequest { client_id: Some(client.client_id), name: String::new() };
            let look_up = || self.registry.client(&request).map(|client| client.name).unwrap_or_default();
            client.name.clone_from(self.known.entry(client.client_id).or_insert_with(look_up));
        }
    }
}
