//! An engine on a thread of its own.
//!
//! Requests that are there at the same time share one transaction: ten uploads that end together cost one wait for the
//! disk. Each is answered after that transaction, never before.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    sync::{
        mpsc::{Receiver, Sender, WeakSender},
        oneshot, watch,
    },
    time::timeout,
};

use super::{Answer, Clock, Command, Engine, EngineError, Handle, Output, View};
use crate::{Push, SessionId, StepTask, StoreError};

/// Requests that wait for the engine, and the most that share a transaction.
const QUEUE: usize = 1024;
/// Longest sleep; the clock of a machine that was suspended is looked at again.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// Something for the engine's thread.
pub(super) enum Request {
    /// A command, where its answer goes, and for a new session where its pushes go.
    Command(Command, oneshot::Sender<Result<Answer, EngineError>>, Option<Sender<Push>>),
    /// Something to read, after everything before it.
    Read(Box<dyn FnOnce(&mut Engine) + Send>),
    /// A server step's outcome.
    Step(Box<crate::StepOutcome>),
    /// Look at the clock.
    #[cfg(test)]
    Wake,
    /// End sessions and the thread.
    Shutdown(oneshot::Sender<()>),
}

/// The thread; it ends after [`Handle::shutdown`], or when every handle is gone.
#[derive(Debug)]
pub struct EngineThread(JoinHandle<()>);

impl EngineThread {
    /// Waits for the end of the thread.
    pub fn join(self) {
        // A panic there has been reported by its thread; there is nothing to add.
        let _ = self.0.join();
    }
}

/// Puts an engine on a thread of its own; server steps run on further threads.
///
/// # Errors
/// A thread that cannot be started.
pub fn start(engine: Engine, clock: Arc<dyn Clock>) -> Result<(Handle, EngineThread), EngineError> {
    let (requests, inbox) = tokio::sync::mpsc::channel(QUEUE);
    let (view, watched) = watch::channel(engine.view());
    let (changes, changed) = watch::channel(engine.view().changes);
    let handle = Handle::new(requests.clone(), watched, changed, engine.blobs().clone());
    let failed = |source| StoreError::Io { path: "engine thread".into(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let seat = Seat { engine, clock, inbox, own: requests.downgrade(), sessions: BTreeMap::new(), view, changes };
    let thread = thread::Builder::new().name("fedlora-engine".to_owned());
    let thread = thread.spawn(move || runtime.block_on(seat.run())).map_err(failed)?;
    Ok((handle, EngineThread(thread)))
}

/// The engine's place on its thread.
struct Seat {
    engine: Engine,
    clock: Arc<dyn Clock>,
    inbox: Receiver<Request>,
    own: WeakSender<Request>,
    sessions: BTreeMap<SessionId, Sender<Push>>,
    view: watch::Sender<View>,
    changes: watch::Sender<u64>,
}

/// An answer that waits for its transaction.
struct Waiting {
    answer: Answer,
    to: oneshot::Sender<Result<Answer, EngineError>>,
    pushes: Option<Sender<Push>>,
}

impl Seat {
    async fn run(mut self) {
        // What the last process left undone.
        self.command(Command::Tick);
        loop {
            let wait = self.engine.wait_ms(self.clock.now()).map_or(LONGEST_SLEEP, Duration::from_millis);
            match timeout(wait.min(LONGEST_SLEEP), self.inbox.recv()).await {
                Ok(None) => return,
                Ok(Some(first)) => {
                    if self.serve(first).is_break() {
                        return;
                    }
                }
                Err(_) if self.engine.is_broken() => self.command(Command::Tick),
                Err(_) => {}
            }
            if self.engine.wait_ms(self.clock.now()) == Some(0) {
                self.command(Command::Tick);
            }
        }
    }

    /// Serves a request and those that wait behind it.
    fn serve(&mut self, first: Request) -> std::ops::ControlFlow<()> {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        for _ in 0..QUEUE {
            match next.take() {
                None => break,
                Some(Request::Command(command, to, pushes)) => self.stage(command, to, pushes, &mut waiting),
                Some(Request::Step(outcome)) => {
                    let staged = self.engine.stage(Command::Step(outcome), self.clock.now());
                    self.settle(staged.err(), &mut waiting);
                }
                Some(Request::Read(read)) => {
                    self.commit(&mut waiting);
                    read(&mut self.engine);
                }
                #[cfg(test)]
                Some(Request::Wake) => {
                    let staged = self.engine.stage(Command::Tick, self.clock.now());
                    self.settle(staged.err(), &mut waiting);
                }
                Some(Request::Shutdown(done)) => {
                    self.commit(&mut waiting);
                    self.command(Command::Shutdown);
                    // Nobody may be left to hear that it is done.
                    let _ = done.send(());
                    return std::ops::ControlFlow::Break(());
                }
            }
            next = self.inbox.try_recv().ok();
        }
        // Taken from the queue, so it must not be lost.
        self.commit(&mut waiting);
        next.map_or(std::ops::ControlFlow::Continue(()), |request| self.serve(request))
    }

    fn stage(
        &mut self,
        command: Command,
        to: oneshot::Sender<Result<Answer, EngineError>>,
        pushes: Option<Sender<Push>>,
        waiting: &mut Vec<Waiting>,
    ) {
        match self.engine.stage(command, self.clock.now()) {
            Ok(answer) => waiting.push(Waiting { answer, to, pushes }),
            Err(error) => {
                // The asker may have given up.
                let _ = to.send(Err(error.clone()));
                self.settle(Some(error), waiting);
            }
        }
    }

    /// Where staging broke the engine, nothing that waited has happened.
    fn settle(&mut self, error: Option<EngineError>, waiting: &mut Vec<Waiting>) {
        let Some(error) = error else { return };
        tracing::warn!(%error, "command refused");
        if self.engine.is_broken() {
            fail(waiting, &error);
        }
    }

    /// Makes what was staged durable, then answers and announces.
    fn commit(&mut self, waiting: &mut Vec<Waiting>) {
        if self.engine.is_broken() {
            return;
        }
        match self.engine.commit() {
            Ok(outputs) => {
                self.publish_view();
                for Waiting { answer, to, pushes } in waiting.drain(..) {
                    if let (Answer::Session(session), Some(pushes)) = (&answer, pushes) {
                        self.sessions.insert(*session, pushes);
                    }
                    // The asker may have given up; what it asked for is done all the same.
                    let _ = to.send(Ok(answer));
                }
                for output in outputs {
                    self.carry_out(output);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the state cannot be kept");
                fail(waiting, &error);
            }
        }
    }

    /// A command that nobody waits for.
    fn command(&mut self, command: Command) {
        let staged = self.engine.stage(command, self.clock.now());
        self.settle(staged.err(), &mut Vec::new());
        self.commit(&mut Vec::new());
    }

    fn publish_view(&mut self) {
        let view = self.engine.view();
        let changes = view.changes;
        self.view.send_replace(view);
        self.changes.send_if_modified(|last| std::mem::replace(last, changes) != changes);
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Push(session, push) => {
                let is_last = matches!(push, Push::End(_));
                let pushes = self.sessions.get(&session);
                // A client that does not read its pushes loses its session; it may open another one.
                let is_lost = pushes.is_some_and(|pushes| pushes.try_send(push).is_err());
                if is_last || is_lost {
                    self.sessions.remove(&session);
                }
            }
            Output::Step(task) => self.perform(task),
        }
    }

    /// Does a server step on a thread of its own; its arithmetic uses the threads of the machine.
    fn perform(&self, task: Box<StepTask>) {
        let own = self.own.clone();
        let work = move || {
            let outcome = Box::new(task.perform());
            if let Some(own) = own.upgrade() {
                // The engine may be gone; its successor finds the round closed and does the step again.
                let _ = own.blocking_send(Request::Step(outcome));
            }
        };
        if let Err(error) = thread::Builder::new().name("fedlora-step".to_owned()).spawn(work) {
            tracing::error!(%error, "no thread for the server step; it is done after the next start");
        }
    }
}

fn fail(waiting: &mut Vec<Waiting>, error: &EngineError) {
    for Waiting { to, .. } in waiting.drain(..) {
        // The asker may have given up.
        let _ = to.send(Err(error.clone()));
    }
}
