//! The engine against the model, after every transaction.

use std::{collections::BTreeSet, fs};

use fedlora_adapter::{ClientId, RoundId, encode_adapter};
use fedlora_proto::operator::{Event, RoundClient};

use super::{
    content::Contents,
    model::{Live, Model},
    round::{Round, Stage},
    trace::{Broken, Checked, promise},
    turn::broken,
};
use crate::{CurrentRound, Engine, Push, RunId, RunStatus, SessionId, Verdict};

/// All that is durable is what the model says, and whoever has to know was told. `events` counts those looked at.
pub(super) fn compare(engine: &mut Engine, model: &mut Model, events: &mut u64) -> Checked {
    let (view, live) = (engine.view(), model.live.as_ref());
    promise(view.run.as_ref().map(|run| run.id) == live.map(|live| live.id), || format!("{:?} is live", view.run))?;
    promise(view.connected == model.sessions.len(), || format!("{} clients are connected", view.connected))?;
    if let Some(live) = live {
        running(engine, live)?;
        live.round.as_ref().map_or(Ok(()), |round| open_round(engine, model, live, round))?;
    }
    if let Some((run, (status, done))) = model.over.last_key_value() {
        let (summary, word) = (engine.run_summary(*run).map_err(broken)?, word(*status));
        let is_so = (summary.status.as_str(), summary.rounds_done) == (word, done.0);
        promise(is_so, || format!("{run} is to be {word} after {done}, it is {summary:?}"))?;
    }
    sessions(model)?;
    log(engine, model, events)
}

fn running(engine: &mut Engine, live: &Live) -> Checked {
    let summary = engine.run_summary(live.id).map_err(broken)?;
    let is_open = live.round.as_ref().is_some_and(|round| round.stage != Stage::Published);
    let expected = (if is_open { "running" } else { "pending" }, live.done.0);
    promise((summary.status.as_str(), summary.rounds_done) == expected, || {
        format!("{} is to be {expected:?}, it is {summary:?}", live.id)
    })
}

fn word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Completed => "completed",
        RunStatus::Failed(_) => "failed",
        _ => "stopped",
    }
}

fn open_round(engine: &mut Engine, model: &Model, live: &Live, round: &Round) -> Checked {
    let say = |what: &str| format!("{}, {}: {what}", live.id, round.number);
    let detail = engine.round_detail(Some(live.id), None).map_err(broken)?;
    let summary = detail.summary.ok_or_else(|| Broken(say("no summary")))?;
    let phase = match round.stage {
        Stage::Collecting => "collecting",
        Stage::Closed => "closed",
        Stage::Published => "published",
        Stage::Failed => "failed",
    };
    let found = (summary.round, summary.phase.as_str(), summary.opened_ms);
    promise(found == (round.number.0, phase, round.opened), || say(&format!("to be {phase}, it is {summary:?}")))?;
    let deadline = model.rules.deadline_ms.map_or(0, |deadline_ms| round.opened + deadline_ms);
    promise(summary.deadline_ms == deadline, || say(&format!("the deadline is {deadline}, not {summary:?}")))?;
    // What comes after the publication is in no count any more.
    let late = if round.stage == Stage::Published { summary.late } else { round.late.len() as u64 };
    let expected = (round.accepted.len() as u64, round.rejected.len() as u64, late);
    let found = (summary.accepted, summary.rejected, summary.late);
    promise(found == expected, || say(&format!("accepted, rejected and late are {expected:?}, not {found:?}")))?;
    clients(round, &detail.clients).map_err(|Broken(why)| Broken(say(&why)))?;
    let view = engine.view().round;
    match view.filter(|_| round.stage == Stage::Collecting) {
        Some(current) => task(&current, model),
        None => promise(round.stage != Stage::Collecting, || say("collects, and nobody can know")),
    }
}

/// The frozen list.
fn clients(round: &Round, clients: &[RoundClient]) -> Checked {
    let cohort: BTreeSet<ClientId> = clients.iter().map(|client| ClientId(client.client_id)).collect();
    promise(Some(&cohort) == round.cohort.as_ref(), || format!("{cohort:?} are invited, not {:?}", round.cohort))?;
    let accepted = clients.iter().filter(|client| client.state == "accepted");
    let found: Vec<(u64, &str)> = accepted.map(|client| (client.client_id, client.digest.as_str())).collect();
    let expected: Vec<(u64, String)> = round.accepted.iter().map(|(id, update)| (id.0, update.blob.to_hex())).collect();
    let is_same = found.iter().copied().eq(expected.iter().map(|(id, digest)| (*id, digest.as_str())));
    promise(is_same, || format!("{found:?} are accepted, not {expected:?}"))
}

/// What clients are told of the open round.
fn task(current: &CurrentRound, model: &Model) -> Checked {
    let (Some(live), Some(round)) = (&model.live, model.round()) else {
        return Err(Broken(format!("{} is announced", current.plan.round)));
    };
    let deadline = model.rules.deadline_ms.map(|deadline_ms| round.opened + deadline_ms);
    let is_so = (current.run, current.plan.round) == (live.id, round.number)
        && round.stage == Stage::Collecting
        && current.plan.base == live.global.digest()
        && current.deadline.map(|time| time.0) == deadline;
    promise(is_so, || format!("the task is {current:?}, {} of {} collects", round.number, live.id))
}

/// One thing that a session is told.
pub(super) fn push(model: &mut Model, session: SessionId, push: &Push) -> Checked {
    let is_open = |model: &Model, client| model.sessions.get(&client) == Some(&session);
    let Some(mut told) = model.told.get(&session).copied() else {
        return Err(Broken(format!("session {} of an earlier process hears {push:?}", session.0)));
    };
    match push {
        Push::Run(run) => told.run = Some(run.id),
        Push::Task(current) => {
            task(current, model)?;
            let key = (current.run, current.plan.round);
            let is_due =
                told.task != Some(key) && told.run == Some(current.run) && model.task_of(told.client) == Some(key);
            promise(is_due, || format!("{} is given {} of {} out of turn", told.client, key.1, key.0))?;
            told.task = Some(key);
        }
        Push::RoundClosed(run, round) => {
            let collects = model.live.as_ref().is_some_and(|live| {
                let open = live.round.as_ref().filter(|open| open.stage == Stage::Collecting);
                live.id == *run && open.is_some_and(|open| open.number == *round)
            });
            promise(!collects, || format!("{} hears that {round} is closed, which collects", told.client))?;
            told.task.take_if(|task| *task == (*run, *round));
        }
        Push::RunFinished(run, status) => {
            let expected = model.over.get(run).map(|(status, _)| *status);
            promise(expected == Some(*status), || format!("{run} is {expected:?}, and said to be {status:?}"))?;
            told.run = None;
        }
        Push::End(_) => {
            promise(!is_open(model, told.client), || format!("the session of {} ends", told.client))?;
            model.told.remove(&session);
            return Ok(());
        }
    }
    model.told.insert(session, told);
    Ok(())
}

/// Everybody who is there knows the run and its task.
fn sessions(model: &Model) -> Checked {
    for (client, session) in &model.sessions {
        let Some(told) = model.told.get(session) else { return Err(Broken(format!("{client} has no session"))) };
        let live = model.live.as_ref().map(|live| live.id);
        promise(told.run == live, || format!("{client} knows of {:?}, {live:?} is live", told.run))?;
        let task = model.task_of(*client);
        promise(task.is_none() || told.task == task, || {
            format!("{client} is to do {task:?}, it knows {:?}", told.task)
        })?;
        let open = model.round().filter(|round| round.stage == Stage::Collecting).map(|round| round.number);
        let is_open = told.task.is_none_or(|(_, round)| Some(round) == open);
        promise(is_open, || format!("{client} was not told that its task of {:?} is over", told.task))?;
    }
    Ok(())
}

/// The log has no gap, its time never goes back, and it says nothing that is not so.
fn log(engine: &mut Engine, model: &Model, seen: &mut u64) -> Checked {
    let events = engine.events(*seen, usize::MAX).map_err(broken)?;
    let mut time_ms = 0;
    for event in &events {
        let is_next = event.number == *seen + 1 && event.time_ms >= time_ms && event.time_ms <= model.now;
        promise(is_next, || format!("an event out of order: {event:?}, the time is {}", model.now))?;
        (*seen, time_ms) = (event.number, event.time_ms);
        entry(event, model)?;
    }
    let is_known = events.last().is_none_or(|last| last.time_ms == model.logged);
    promise(is_known, || {
        format!("{:?} was written down, the last that is known of was at {}", events.last(), model.logged)
    })
}

fn entry(event: &Event, model: &Model) -> Checked {
    let (run, round) = (RunId(event.run_id), RoundId(event.round));
    let client = event.client_id.map(ClientId);
    let is_so = match (event.kind.as_str(), client) {
        ("update-accepted", Some(client)) => model.counted.contains_key(&(run, round, client)),
        ("round-opened", _) => model.cohorts.contains_key(&(run, round)),
        ("round-published", _) => model.published.contains_key(&(run, round)),
        _ => true,
    };
    promise(is_so, || format!("the log says {event:?}"))
}

/// What was acknowledged is acknowledged again.
pub(super) fn receipts(engine: &mut Engine, model: &Model) -> Checked {
    for (&(run, round, client), update) in &model.counted {
        let receipt = engine.receipt(client, run, round, update.blob).map_err(broken)?;
        let verdict = receipt.map(|receipt| receipt.verdict);
        promise(verdict == Some(Verdict::Accepted), || format!("lost: {client}, {round}, {run}: {verdict:?}"))?;
    }
    Ok(())
}

/// Every published adapter is, byte for byte, the mean of exactly the updates that count in its round; and the log has
/// opened each round, and accepted each update, once.
pub(super) fn everything(engine: &mut Engine, model: &Model, contents: &Contents) -> Checked {
    receipts(engine, model)?;
    for (&(run, round), published) in &model.published {
        let updates = model.counted.range((run, round, ClientId(0))..=(run, round, ClientId(u64::MAX)));
        let mean = contents.mean(updates.map(|(_, update)| update), model.rules.weighting);
        let record = engine.records.checkpoint(run, round).map_err(|error| broken(error.into()))?;
        let file = record.and_then(|record| fs::read(engine.blobs().path(record.blob)).ok());
        let expected = encode_adapter(&mean).ok();
        let is_mean = mean.digest() == *published && expected.is_some() && file == expected;
        promise(is_mean, || format!("{run}, {round}: the adapter is not the mean of what counts"))?;
    }
    let events = engine.events(0, usize::MAX).map_err(broken)?;
    let mut once = BTreeSet::new();
    for event in events.iter().filter(|event| matches!(event.kind.as_str(), "round-opened" | "update-accepted")) {
        let is_first = once.insert((event.kind.as_str(), event.run_id, event.round, event.client_id));
        promise(is_first, || format!("twice: {event:?}"))?;
    }
    let accepted = once.iter().filter(|(kind, ..)| *kind == "update-accepted").count();
    promise(accepted == model.counted.len(), || format!("{accepted} updates were ever accepted"))
}
