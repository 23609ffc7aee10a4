//! A client's session: who it is comes up, the run and its tasks go down, and heartbeats keep it alive.

use std::{sync::Arc, time::Duration};

use fedlora_adapter::{ClientId, Digest, RoundId};
use fedlora_proto::{
    PROTOCOL_VERSION, digest, digest_bytes,
    federation::{
        ClientMessage, Decline, Heartbeat, Hello, RoundClosed, Run, RunFinished, ServerMessage, Task, Welcome,
        client_message::Kind as Up, server_message::Kind as Down,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::{StreamExt as _, adapters::Map, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use super::{Authenticate, FederationService, Now, Rounds, Settings};
use crate::{
    CurrentRound, CurrentRun, Push, RunId, RunStatus, SessionId,
    grpc::{Gate, status::CallError},
    upload::Revoked,
};

/// Messages down that wait for a client which reads slowly.
const WAITING: usize = 8;
/// Bytes of a client's reasons that are kept.
const REASON_BYTES: usize = 500;

/// One message down, or the status that ends the stream. Boxed: a channel sets aside room for 32 of them, for each client.
type Message = Box<Result<ServerMessage, Status>>;
/// What a client hears.
pub(super) type Messages = Map<ReceiverStream<Message>, fn(Message) -> Result<ServerMessage, Status>>;

/// One call of `Participate`.
pub(super) struct Session<R> {
    rounds: R,
    now: Now,
    gate: Arc<Gate>,
    settings: Arc<Settings>,
    client: ClientId,
    inbound: Streaming<ClientMessage>,
    outbound: mpsc::Sender<Message>,
    revoked: Revoked,
    base_model: Digest,
    told: Option<RunId>,
}

impl<R: Rounds> Session<R> {
    /// Begins to answer a client. The session runs on a task of its own, so that it is closed in order whatever becomes of
    /// the call.
    pub(super) fn open<A: Authenticate>(
        service: &FederationService<R, A>,
        client: ClientId,
        inbound: Streaming<ClientMessage>,
        revoked: Revoked,
    ) -> Messages {
        let (outbound, receiver) = mpsc::channel(WAITING + 1);
        let session = Self {
            rounds: service.rounds.clone(),
            now: Arc::clone(&service.now),
            gate: Arc::clone(&service.gate),
            settings: Arc::clone(&service.settings),
            client,
            inbound,
            outbound,
            revoked,
            base_model: Digest::from_bytes([0; 32]),
            told: None,
        };
        tokio::spawn(session.run());
        let unboxed: fn(Message) -> Result<ServerMessage, Status> = |message| *message;
        ReceiverStream::new(receiver).map(unboxed)
    }

    /// From Hello to the end, with the reason as the stream's status.
    async fn run(mut self) {
        // Room for the last word, whether or not the messages before it were read.
        let Ok(last) = self.outbound.clone().reserve_owned().await else { return };
        if let Err(error) = self.take_part().await {
            tracing::debug!(client = self.client.0, error = %error, "session ends");
            last.send(Box::new(Err(error.into())));
        }
    }

    async fn take_part(&mut self) -> Result<(), CallError> {
        let hello = self.hello().await?;
        // Before the client is counted in: who cannot train is not to be invited.
        if let Some(run) = self.rounds.run() {
            self.check_base_model(&run)?;
        }
        let (session, mut pushes) = self.rounds.connect(self.client, hello.examples).await?;
        tracing::debug!(client = self.client.0, version = ?hello.software_version, "session begins");
        let end = match self.welcome().await {
            Ok(()) => self.live(session, &mut pushes).await,
            Err(error) => Err(error),
        };
        self.rounds.disconnect(self.client, session).await;
        end
    }

    async fn hello(&mut self) -> Result<Hello, CallError> {
        let (expected, waited) = ("Hello", self.settings.first_message_timeout());
        let message = timeout(waited, self.inbound.message()).await;
        let message = message.map_err(|_| CallError::Silent { expected, waited })?.map_err(CallError::Broken)?;
        let Some(ClientMessage { kind: Some(Up::Hello(hello)) }) = message else {
            return Err(CallError::FirstMessage { expected });
        };
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(CallError::WrongVersion { found: hello.protocol_version });
        }
        self.base_model = digest("hello.base_model", &hello.base_model)?;
        Ok(hello)
    }

    fn check_base_model(&self, run: &CurrentRun) -> Result<(), CallError> {
        if run.base_model == self.base_model {
            return Ok(());
        }
        let (expected, found) = (run.base_model, self.base_model);
        Err(CallError::WrongBaseModel { run: run.name.clone(), expected, found })
    }

    async fn welcome(&mut self) -> Result<(), CallError> {
        // Read again: a run that began in between may not be pushed to a session that was not open yet.
        let run = self.rounds.run();
        if let Some(run) = &run {
            self.check_base_model(run)?;
            self.told = Some(run.id);
        }
        self.send(Down::Welcome(Welcome {
            client_id: self.client.0,
            heartbeat_interval_ms: self.settings.heartbeat_interval_ms,
            server_time_ms: (self.now)().0,
            run: run.as_deref().map(run_message),
        }))
        .await
    }

    async fn live(&mut self, session: SessionId, pushes: &mut mpsc::Receiver<Push>) -> Result<(), CallError> {
        let silent = self.settings.silence();
        let mut silence = Instant::now() + silent;
        loop {
            tokio::select! {
                biased;
                () = &mut self.revoked => return Err(CallError::Ended { reason: "revoked" }),
                () = self.outbound.closed() => return Ok(()),
                push = pushes.recv() => self.push(push).await?,
                message = self.inbound.message() => {
                    let Some(message) = message.map_err(CallError::Broken)? else { return Ok(()) };
                    silence = Instant::now() + silent;
                    self.hear(message, session).await?;
                }
                () = sleep_until(silence) => return Err(CallError::HeartbeatsMissing { silent }),
            }
        }
    }

    /// Sends what the engine has for this client.
    async fn push(&mut self, push: Option<Push>) -> Result<(), CallError> {
        match push {
            Some(Push::Run(run)) => self.tell_run(&run).await,
            Some(Push::Task(round)) => self.send(Down::Task(task_message(&round))).await,
            Some(Push::RoundClosed(run, round)) => {
                self.send(Down::RoundClosed(RoundClosed { run_id: run.0, round: round.0 })).await
            }
            Some(Push::RunFinished(run, status)) => {
                let status = status_text(status).to_owned();
                self.send(Down::RunFinished(RunFinished { run_id: run.0, status })).await
            }
            Some(Push::End(reason)) => Err(CallError::Ended { reason }),
            // The engine is gone, or has forgotten the client.
            None => Err(CallError::Ended { reason: "draining" }),
        }
    }

    async fn tell_run(&mut self, run: &CurrentRun) -> Result<(), CallError> {
        self.check_base_model(run)?;
        if self.told.replace(run.id) == Some(run.id) {
            return Ok(());
        }
        self.send(Down::Run(run_message(run))).await
    }

    /// Acts on a message of the client.
    async fn hear(&mut self, message: ClientMessage, session: SessionId) -> Result<(), CallError> {
        self.gate.client(self.client)?;
        match message.kind {
            Some(Up::Heartbeat(heartbeat)) => self.beat(heartbeat, session).await,
            Some(Up::Decline(Decline { round, reason })) => {
                let reason = shortened(reason);
                self.rounds.decline(self.client, session, RoundId(round), reason).await;
                Ok(())
            }
            Some(Up::Hello(_)) => Err(CallError::Repeated { expected: "Hello" }),
            None => Err(CallError::UnknownMessage),
        }
    }

    async fn beat(&mut self, heartbeat: Heartbeat, session: SessionId) -> Result<(), CallError> {
        if heartbeat.round > 0 {
            let (round, steps) = (RoundId(heartbeat.round), heartbeat.steps_done);
            self.rounds.progress(self.client, session, round, steps).await;
        }
        self.send(Down::Heartbeat(heartbeat)).await
    }

    /// Sends a message; a client that reads nothing for as long as one may be silent is gone.
    async fn send(&mut self, kind: Down) -> Result<(), CallError> {
        let silent: Duration = self.settings.silence();
        let message = ServerMessage { kind: Some(kind) };
        match self.outbound.send_timeout(Box::new(Ok(message)), silent).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(CallError::CutOff),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(CallError::HeartbeatsMissing { silent }),
        }
    }
}

/// The first bytes of a text.
fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(REASON_BYTES));
    text
}

fn run_message(run: &CurrentRun) -> Run {
    Run {
        run_id: run.id.0,
        name: run.name.clone(),
        spec: Some((&*run.spec).into()),
        base_model: digest_bytes(run.base_model),
        labels: run.labels.clone(),
    }
}

fn task_message(round: &CurrentRound) -> Task {
    Task {
        run_id: round.run.0,
        plan: Some((&*round.plan).into()),
        blob: digest_bytes(round.blob),
        blob_bytes: round.blob_bytes,
        deadline_ms: round.deadline.map_or(0, |deadline| deadline.0),
    }
}

fn status_text(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pending => "pending",
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Completed => "completed",
        RunStatus::Stopped => "stopped",
        RunStatus::Failed(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_between_characters() {
        assert_eq!(shortened("no".to_owned()), "no");
        // Characters of 3 bytes: the 500th byte is in the middle of one.
        assert_eq!(shortened("漢".repeat(200)), "漢".repeat(166));
    }
}
