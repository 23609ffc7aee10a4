//! What sessions have to hear, by comparing what they were told with what is durable.
//!
//! Announcing by difference rather than by event means that a restart, a lost connection or a failed commit needs no
//! case of its own: whoever was not told yet is told.

use std::sync::Arc;

use fedlora_adapter::ClientId;

use super::{Engine, Output, live::Live, sessions::Session};
use crate::{Push, RunId, RunStatus};

impl Engine {
    pub(super) fn announce(&mut self) -> Vec<Output> {
        let (ended, clients) = self.sessions.take_news();
        let mut outputs: Vec<Output> =
            ended.into_iter().map(|(session, reason)| Output::Push(session, Push::End(reason))).collect();
        for client in clients {
            if let Some(session) = self.sessions.get_mut(client) {
                let pushes = news(client, session, self.live.as_ref(), self.over);
                outputs.extend(pushes.into_iter().map(|push| Output::Push(session.id, push)));
            }
        }
        outputs
    }
}

/// What one session has to hear, in order.
fn news(client: ClientId, session: &mut Session, live: Option<&Live>, over: Option<(RunId, RunStatus)>) -> Vec<Push> {
    let mut pushes = Vec::new();
    let is_new = std::mem::take(&mut session.is_new);
    let run = live.map(|live| live.id);
    let collecting = live.and_then(Live::collecting);
    if let Some((task_run, round)) = session.task
        && collecting.is_none_or(|current| (current.run, current.plan.round) != (task_run, round))
    {
        session.task = None;
        pushes.push(Push::RoundClosed(task_run, round));
    }
    if let Some(told) = session.run.filter(|told| Some(*told) != run) {
        session.run = None;
        let status = over.filter(|(over, _)| *over == told).map_or(RunStatus::Stopped, |(_, status)| status);
        pushes.push(Push::RunFinished(told, status));
    }
    let Some(live) = live else { return pushes };
    if session.run.is_none() {
        session.run = Some(live.id);
        pushes.push(Push::Run(Arc::clone(&live.current)));
    }
    let Some(round) = live.run.round().filter(|round| round.cohort().contains(&client)) else { return pushes };
    let is_open = !round.accepted().contains_key(&client) && !live.declined.contains(&client);
    match collecting {
        Some(current) if is_open && (is_new || session.task.is_none()) => {
            session.task = Some((live.id, round.id()));
            pushes.push(Push::Task(Arc::clone(current)));
        }
        // It may come from before a restart of this process, still training for a round that is closed.
        None if is_open && is_new && pushes.iter().all(|push| !matches!(push, Push::RoundClosed(..))) => {
            pushes.push(Push::RoundClosed(live.id, round.id()));
        }
        _ => {}
    }
    pushes
}
