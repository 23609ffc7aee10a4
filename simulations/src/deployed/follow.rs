//! Following a run at its coordinator, round by round, into the simulator's evaluations and records.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use fedlora_adapter::RoundId;
use fedlora_coordinator::{Control, EngineError, Handle, RunStatus, Tally};
use fedlora_proto::operator::{RoundClient, RoundMetrics, RunSummary};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{MissedTickBehavior, interval},
};

use super::{
    DeployedError,
    gate::Gate,
    player::{Note, Players},
};
use crate::{
    metrics::ClientMetrics,
    server::{Server, ServerStep},
};

/// How often to look for what the coordinator does not announce.
const TICK: Duration = Duration::from_millis(50);

/// Keeps the simulator's records of a run that a coordinator leads.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    pub(super) server: &'a mut Server,
    pub(super) engine: Handle,
    pub(super) gate: &'a Gate,
    pub(super) notes: UnboundedReceiver<Note>,
    pub(super) players: &'a Players,
    pub(super) interrupted: &'a AtomicBool,
}

/// What a wait came to.
enum Next<T> {
    Here(T),
    Over,
}

impl Follower<'_> {
    /// Waits until all clients are connected, so that the first cohort is drawn from all.
    pub(super) async fn everybody(&mut self, clients: usize) -> Result<(), DeployedError> {
        let mut tick = interval(TICK);
        while self.engine.connected() < clients && !self.interrupted.load(Ordering::Relaxed) {
            self.alive()?;
            tick.tick().await;
        }
        Ok(())
    }

    /// Evaluates and records every round as it is published.
    pub(super) async fn follow(&mut self, num_rounds: u64) -> Result<RunStatus, DeployedError> {
        for round in (1..=num_rounds).map(RoundId) {
            let Next::Here(invited) = self.wait(async |engine| opened(engine, round).await).await? else { break };
            self.server.begin(round, invited);
            self.gate.open(round);
            let Next::Here(metrics) = self.wait(async |engine| published(engine, round).await).await? else { break };
            self.record(round, &metrics).await?;
        }
        self.wait(async |_| Ok(None::<()>)).await?;
        self.ended().await
    }

    /// Waits until `look` finds something or the run is over.
    async fn wait<T>(
        &mut self,
        look: impl AsyncFn(&Handle) -> Result<Option<T>, EngineError>,
    ) -> Result<Next<T>, DeployedError> {
        let mut changes = self.engine.changes();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            changes.mark_unchanged();
            let over = is_over(&self.run().await?);
            // In this order: what was published before the run was over is still found.
            if let Some(found) = look(&self.engine).await? {
                return Ok(Next::Here(found));
            }
            if over {
                return Ok(Next::Over);
            }
            self.alive()?;
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| EngineError::Stopped)?,
                Some((client, spent)) = self.notes.recv() => self.server.trained(client, spent),
                _ = tick.tick() => self.stop_if_interrupted().await?,
            }
        }
    }

    fn alive(&self) -> Result<(), DeployedError> {
        if self.players.failed() {
            Err(DeployedError::RunFailed { reason: "a client failed".to_owned() })
        } else {
            Ok(())
        }
    }

    async fn run(&self) -> Result<RunSummary, DeployedError> {
        let runs = self.engine.runs().await?;
        runs.into_iter().next().ok_or_else(|| DeployedError::RunFailed { reason: "the run is gone".to_owned() })
    }

    /// The open round is finished, as with the direct link.
    async fn stop_if_interrupted(&self) -> Result<(), DeployedError> {
        if self.interrupted.load(Ordering::Relaxed) {
            self.engine.control(None, Control::Stop).await?;
        }
        Ok(())
    }

    async fn record(&mut self, round: RoundId, metrics: &RoundMetrics) -> Result<(), DeployedError> {
        while let Ok((client, spent)) = self.notes.try_recv() {
            self.server.trained(client, spent);
        }
        let (global, _) = self.engine.export(None, Some(round)).await?;
        let detail = self.engine.round_detail(None, Some(round)).await?;
        let summary = detail.summary.unwrap_or_default();
        self.server.adopt(ServerStep {
            global,
            residual: metrics.aggregation_residual,
            update_norm: metrics.update_norm,
            train_loss: summary.train_loss,
            clients: detail.clients.iter().filter(|client| client.state == "accepted").map(client_metrics).collect(),
            seconds: metrics.aggregation_ms as f64 / 1e3,
            release: self.engine.release(round).await?,
        });
        let tally = Tally {
            accepted: summary.accepted,
            rejected: summary.rejected,
            late: summary.late,
            dropped: summary.dropped,
        };
        Ok(self.server.publish(round, tally)?)
    }

    /// How the run ended.
    async fn ended(&mut self) -> Result<RunStatus, DeployedError> {
        let run = self.run().await?;
        match run.status.as_str() {
            "completed" => Ok(RunStatus::Completed),
            "stopped" => {
                self.server.stopped(RoundId(run.rounds_done))?;
                Ok(RunStatus::Stopped)
            }
            _ => Err(DeployedError::RunFailed { reason: run.reason }),
        }
    }
}

fn is_over(run: &RunSummary) -> bool {
    run.finished_ms != 0
}

/// How many clients were invited to a round that is open, or was.
async fn opened(engine: &Handle, round: RoundId) -> Result<Option<usize>, EngineError> {
    if engine.rounds(None, 1).await?.iter().all(|newest| newest.round < round.0) {
        return Ok(None);
    }
    let detail = engine.round_detail(None, Some(round)).await?;
    Ok(detail.summary.map(|summary| summary.invited as usize))
}

async fn published(engine: &Handle, round: RoundId) -> Result<Option<RoundMetrics>, EngineError> {
    let metrics = engine.metrics(None, round.0 - 1).await?;
    let is_it = |metrics: &RoundMetrics| {
        metrics.summary.as_ref().is_some_and(|summary| summary.round == round.0 && summary.phase == "published")
    };
    Ok(metrics.into_iter().find(is_it))
}

fn client_metrics(client: &RoundClient) -> ClientMetrics {
    ClientMetrics {
        client: client.client_id,
        num_examples: client.examples,
        steps: client.steps,
        train_loss: client.train_loss,
    }
}
