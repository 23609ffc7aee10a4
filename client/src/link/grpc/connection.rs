//! The stream of tasks and heartbeats, and coming back to it.

use std::{sync::Arc, time::Duration};

use fedlora_adapter::{AdapterSpec, Digest};
use fedlora_proto::{
    PROTOCOL_VERSION, digest, digest_bytes,
    federation::{ClientMessage, Heartbeat, Hello, Run, ServerMessage, Task, client_message, server_message::Kind},
};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    LinkError, client_id,
    shared::{Offer, Shared},
    transfer::retry_after,
};
use crate::{backoff::Backoff, clock, dialer::Dialer, outbox::TaskKey, terms::RunInfo};

/// Messages to the coordinator that wait for the connection.
const OUTGOING: usize = 16;
/// Heartbeats without an answer after which the connection counts as dead.
const UNANSWERED: u32 = 3;
/// Until the coordinator says how often it wants them.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(10);
/// Bounds on what a coordinator may ask for.
const HEARTBEATS_MS: std::ops::RangeInclusive<u64> = 100..=300_000;
/// How far the two clocks may be apart before someone should look: certificates are about days.
const CLOCK_SKEW_MS: u64 = 60_000;

/// The connection of one client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) dialer: Arc<Dialer>,
    pub(super) base_model: Digest,
    pub(super) examples: u64,
    pub(super) stay: bool,
}

/// How a session on the stream ended.
enum End {
    /// It is to be made anew at once.
    Again,
    /// The client stops, or the run is over.
    Over,
    /// The connection broke, before or after the coordinator had said welcome.
    Lost { status: Status, welcomed: bool },
    /// It makes no sense to go on.
    Failed(LinkError),
}

/// One session on the stream.
struct Stream<'a> {
    connection: &'a Connection,
    client: u64,
    welcomed: bool,
    run: Option<Arc<RunInfo>>,
    heartbeats: Interval,
    sequence: u64,
    unanswered: u32,
}

impl Connection {
    /// Keeps the stream open until the client stops, the run is over or the coordinator turns it away.
    pub(super) async fn keep(self, mut backoff: Backoff) {
        loop {
            self.shared.progress.say(&format!("connecting to {}", self.dialer.server()));
            let end = self.session().await;
            self.shared.set_outgoing(None);
            let (status, welcomed) = match end {
                End::Again => continue,
                End::Over => return,
                End::Failed(error) => return self.shared.over(Err(error)),
                End::Lost { status, welcomed } => (status, welcomed),
            };
            if let Some(error) = LinkError::of(&status) {
                return self.shared.over(Err(error));
            }
            if welcomed {
                backoff.reset();
            }
            let wait = backoff.next(retry_after(&status));
            let reason = self.dialer.unreachable(&status);
            tracing::warn!(%reason, wait_ms = wait.as_millis() as u64, "not connected");
            self.shared.progress.say(&format!("{reason}; next try in {:.0} s", wait.as_secs_f64()));
            tokio::select! {
                () = self.shared.stopping() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn session(&self) -> End {
        let (outgoing, receiver) = mpsc::channel(OUTGOING);
        // The channel is empty and larger than one.
        let _ = outgoing.try_send(hello(self.base_model, self.examples));
        let mut client = self.dialer.federation();
        let call = client.participate(self.dialer.request(ReceiverStream::new(receiver)));
        let incoming = tokio::select! {
            answer = call => answer,
            () = self.shared.stopping() => return End::Over,
        };
        match incoming {
            Ok(incoming) => {
                self.shared.set_outgoing(Some(outgoing.clone()));
                Stream::new(self).serve(incoming.into_inner(), outgoing).await
            }
            Err(status) => End::Lost { status, welcomed: false },
        }
    }
}

impl<'a> Stream<'a> {
    fn new(connection: &'a Connection) -> Self {
        let heartbeats = every(FIRST_HEARTBEAT);
        Self { connection, client: 0, welcomed: false, run: None, heartbeats, sequence: 0, unanswered: 0 }
    }

    async fn serve(mut self, mut incoming: Streaming<ServerMessage>, outgoing: mpsc::Sender<ClientMessage>) -> End {
        let shared = &self.connection.shared;
        loop {
            tokio::select! {
                message = incoming.message() => match message {
                    Ok(Some(message)) => {
                        self.unanswered = 0;
                        if let Some(end) = self.hear(message).unwrap_or_else(|error| Some(End::Failed(error))) {
                            return end;
                        }
                    }
                    Ok(None) => return self.lost(Status::unavailable("the coordinator closed the session")),
                    Err(status) => return self.lost(status),
                },
                _ = self.heartbeats.tick() => {
                    if self.unanswered >= UNANSWERED {
                        return self.lost(Status::unavailable("the coordinator does not answer heartbeats"));
                    }
                    self.beat(&outgoing);
                },
                () = shared.reconnecting() => return End::Again,
                () = shared.stopping() => {
                    // Closing our side first lets everything that waits, such as a word why, arrive.
                    shared.set_outgoing(None);
                    drop(outgoing);
                    while let Ok(Some(_)) = incoming.message().await {}
                    return End::Over;
                }
            }
        }
    }

    fn lost(&self, status: Status) -> End {
        End::Lost { status, welcomed: self.welcomed }
    }

    fn beat(&mut self, outgoing: &mpsc::Sender<ClientMessage>) {
        let shared = &self.connection.shared;
        self.sequence += 1;
        let (round, steps_done) = (shared.active_round(), shared.watch.steps());
        if round > 0 && steps_done > 0 {
            shared.progress.say(&format!("round {round}: training, step {steps_done}"));
        }
        let heartbeat = Heartbeat { sequence: self.sequence, round, steps_done };
        // A full channel is a connection that takes nothing: it counts as unanswered.
        let _ = outgoing.try_send(ClientMessage { kind: Some(client_message::Kind::Heartbeat(heartbeat)) });
        self.unanswered += 1;
    }

    /// Takes one message; an end if there is nothing more to hear.
    fn hear(&mut self, message: ServerMessage) -> Result<Option<End>, LinkError> {
        let connection = self.connection;
        let shared = &connection.shared;
        match message.kind {
            Some(Kind::Welcome(welcome)) => {
                self.welcomed = true;
                self.client = welcome.client_id;
                let period = welcome.heartbeat_interval_ms.clamp(*HEARTBEATS_MS.start(), *HEARTBEATS_MS.end());
                self.heartbeats = every(Duration::from_millis(period));
                warn_of_skew(shared, welcome.server_time_ms);
                shared.progress.say("connected, waiting for a round");
                tracing::info!(server = %connection.dialer.server(), client = self.client, "connected");
                if shared.missed_the_end(welcome.run.as_ref().map(|run| run.run_id))
                    && let Some(end) = self.finish("it ended while this client was away")
                {
                    return Ok(Some(end));
                }
                welcome.run.map_or(Ok(()), |run| self.enter(run))?;
            }
            Some(Kind::Run(run)) => self.enter(run)?,
            Some(Kind::Task(task)) => {
                let offer = self.offer(task)?;
                shared.offer(offer);
            }
            Some(Kind::RoundClosed(closed)) => shared.closed(closed.run_id, fedlora_adapter::RoundId(closed.round)),
            Some(Kind::RunFinished(finished)) => return Ok(self.finish(&finished.status)),
            Some(Kind::Heartbeat(_)) | None => {}
        }
        Ok(None)
    }

    fn enter(&mut self, run: Run) -> Result<(), LinkError> {
        let spec: AdapterSpec = run.spec.ok_or(LinkError::Nonsense { what: "a run without an adapter" })?.try_into()?;
        let expected = digest("run.base_model", &run.base_model)?;
        let found = self.connection.base_model;
        if expected != found {
            return Err(LinkError::BaseModel { run: run.name, expected, found });
        }
        let (id, name, labels) = (run.run_id, run.name, run.labels);
        self.connection.shared.entered(id);
        self.run = Some(Arc::new(RunInfo { id, name, spec: Arc::new(spec), base_model: found, labels }));
        Ok(())
    }

    fn offer(&self, task: Task) -> Result<Offer, LinkError> {
        let run = self.run.as_ref().filter(|run| run.id == task.run_id);
        let run = Arc::clone(run.ok_or(LinkError::Nonsense { what: "a task of a run that it did not announce" })?);
        let plan = task.plan.ok_or(LinkError::Nonsense { what: "a task without a plan" })?.into_plan(&run.name)?;
        if plan.spec != run.spec.digest() {
            return Err(LinkError::Nonsense { what: "a task for another adapter than its run's" });
        }
        let key = TaskKey { run: run.id, round: plan.round, base: plan.base };
        let blob = digest("task.blob", &task.blob)?;
        let client = client_id(self.client);
        Ok(Offer { key, client, run, plan: Arc::new(plan), blob, blob_bytes: task.blob_bytes })
    }

    /// The run is over; whoever stays waits for the next one on the same stream.
    fn finish(&mut self, status: &str) -> Option<End> {
        let shared = &self.connection.shared;
        tracing::info!(status, "run finished");
        shared.progress.note(&format!("the run is over: {status}"));
        shared.run_over();
        if self.connection.stay {
            shared.progress.say("waiting for the next run");
            return None;
        }
        shared.over(if status.ends_with("failed") { Err(LinkError::RunFailed) } else { Ok(()) });
        Some(End::Over)
    }
}

fn hello(base_model: Digest, examples: u64) -> ClientMessage {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        base_model: digest_bytes(base_model),
        examples,
    };
    ClientMessage { kind: Some(client_message::Kind::Hello(hello)) }
}

/// Ticks after each period, the first after a whole one; a late tick delays the next ones.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn warn_of_skew(shared: &Shared, server_time_ms: u64) {
    let own = clock::now_ms();
    let skew_ms = own.abs_diff(server_time_ms);
    if skew_ms > CLOCK_SKEW_MS {
        let direction = if own > server_time_ms { "ahead of" } else { "behind" };
        tracing::warn!(skew_ms, "this machine's clock is {direction} the coordinator's");
        let seconds = skew_ms / 1000;
        shared
            .progress
            .note(&format!("this machine's clock is {seconds} s {direction} the coordinator's: set one right"));
    }
}
