//! One run from configuration to results.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use fedlora_adapter::{ClientId, PeftOptions, RoundId, Seed, write_peft};
use fedlora_client::{KeptStore, Participant, Session};
use fedlora_coordinator::{
    Run, RunStatus,
    config::{CentralPlan, ConfigError},
};
use fedlora_learner::{LearnerError, LocalTrainer, Randomness};

use crate::{
    config::{self, Config},
    error::SimulationError,
    evaluation::Evaluator,
    experiment::{Clients, Material},
    files,
    metrics::Summary,
    observer::Observer,
    record::Recorder,
    report::{self, RunRecord},
    server::{Server, ServerParts},
    states::States,
    summary,
    world::{World, WorldSettings},
};

/// Where a run's files go, and whether it goes on with what is there.
#[derive(Debug, Clone)]
pub struct Output {
    /// The run directory.
    pub directory: PathBuf,
    /// Go on with the run in it.
    pub resume: bool,
}

/// Runs a configuration over prepared material and writes its directory.
///
/// # Errors
/// See [`SimulationError`]. What was checkpointed before stays and can be resumed.
pub fn run(
    config: &Config,
    material: &Material,
    clients: &Clients,
    output: &Output,
    observer: Box<dyn Observer>,
    interrupted: &Arc<AtomicBool>,
) -> Result<RunRecord, SimulationError> {
    let shards = Arc::new(clients.train.clone());
    let trainer = LocalTrainer::new(Arc::clone(&material.model), Arc::clone(&material.train), shards)?
        .with_cohort_size(config.cohort_size)
        .with_micro_batch_size(config.micro_batch_size)
        .with_gradient_checkpointing(config.gradient_checkpointing)
        .with_copies(material.copies.iter().cloned())
        .with_randomness(Randomness::Seed);
    let mut world = prepare(config, material, clients, output, observer, interrupted)?;
    let states = world.server().states().clone();
    let mut session = Session::new(world, trainer, states);
    session.run().map_err(Box::new)?;
    (world, _, _) = session.into_parts();
    let (server, status) = world.into_server();
    finish(config, &server, status, clients, output, &material.peft)
}

fn prepare(
    config: &Config,
    material: &Material,
    clients: &Clients,
    output: &Output,
    observer: Box<dyn Observer>,
    interrupted: &Arc<AtomicBool>,
) -> Result<World, SimulationError> {
    let ids: Vec<ClientId> = clients.train.keys().copied().collect();
    let run = config.run.settings(ids.len())?;
    let (server, done) = server(config, material, clients, output, observer)?;
    let settings = WorldSettings {
        seed: Seed(config.run.seed),
        faults: config.faults,
        clients: ids,
        needed: config.run.min_available_clients,
    };
    Ok(World::start(Run::new(run, done)?, server, settings, Arc::clone(interrupted))?)
}

/// The server's half of a run, new or as its last checkpoint left it, and its last round.
pub(crate) fn server(
    config: &Config,
    material: &Material,
    clients: &Clients,
    output: &Output,
    observer: Box<dyn Observer>,
) -> Result<(Server, RoundId), SimulationError> {
    let strategy = config.run.strategy()?;
    let spec = material.spec(config)?;
    let initial = material.initial(&spec, config.run.init()?, config.run.seed)?;
    let directory = &output.directory;
    let states = States::new(Arc::clone(&spec), Some(directory.join("clients")), config.spill);
    let (text, every, peft) = (config::to_toml(config)?, config.checkpoint_every, material.peft.clone());
    let (local, evaluator) = (config.run.local()?, evaluator(config, material, clients)?);
    let central = central(config, clients)?;
    // Last, so that nothing is written for a run that cannot start.
    let (recorder, done, global, rounds) = if output.resume {
        let (recorder, resumed) = Recorder::resume(directory, &text, every, peft, &spec, initial, &states)?;
        (recorder, resumed.done, resumed.global, resumed.rounds)
    } else {
        (Recorder::create(directory, &text, every, peft)?, RoundId(0), initial, Vec::new())
    };
    let server = Server::new(ServerParts {
        strategy,
        weighting: config.run.weighting,
        global,
        run: config.run.name.clone(),
        seed: config.run.seed,
        num_rounds: config.run.num_rounds,
        local,
        central,
        people_overlap: config.people_overlap,
        evaluate_every: config.evaluate_every,
        evaluator: Some(evaluator),
        states,
        recorder: Some(recorder),
        observer,
        rounds,
    });
    Ok((server, done))
}

/// What the server releases in each round, where it adds noise.
fn central(config: &Config, clients: &Clients) -> Result<Option<CentralPlan>, SimulationError> {
    let Some(terms) = &config.run.central_privacy else { return Ok(None) };
    let count = clients.train.len();
    let invalid = |key: &str, reason: String| ConfigError::invalid(format!("central-privacy{key}"), reason);
    if terms.target_delta * count as f64 >= 1.0 {
        let reason = format!("is {:e}, must be below one over the {count} clients", terms.target_delta);
        return Err(invalid(".target-delta", reason).into());
    }
    let plan = terms.plan(config.run.num_rounds, config.run.cohort(count), count);
    Ok(Some(plan.map_err(|error| invalid("", error.to_string()))?))
}

/// Evaluates personal models of clients that are spread evenly over all.
fn evaluator(config: &Config, material: &Material, clients: &Clients) -> Result<Evaluator, SimulationError> {
    let all: Vec<ClientId> = clients.train.keys().copied().collect();
    let count = config.evaluate_clients.min(all.len());
    let chosen = (0..count).map(|index| all[index * all.len() / count]);
    let rows: Vec<u32> = (0..material.test.len() as u32).collect();
    let own = |client: ClientId| match clients.own_tests.get(&client).filter(|rows| !rows.is_empty()) {
        Some(rows) => material.evaluation(config, &material.train, rows).map(Some),
        None => Ok(None),
    };
    Ok(Evaluator {
        model: Arc::clone(&material.model),
        test: material.evaluation(config, &material.test, &rows)?,
        own_tests: chosen.map(|client| Ok((client, own(client)?))).collect::<Result<_, LearnerError>>()?,
    })
}

/// Writes what a finished run leaves: summary, adapters, tables and plots.
pub(crate) fn finish(
    config: &Config,
    server: &Server,
    status: RunStatus,
    clients: &Clients,
    output: &Output,
    peft: &PeftOptions,
) -> Result<RunRecord, SimulationError> {
    let summary = summary::summarise(config, server, status);
    let record = RunRecord { rounds: server.rounds().to_vec(), summary };
    let directory = &output.directory;
    write_peft(&directory.join("adapters/global"), server.global(), peft)?;
    write_personal(directory, server, clients, peft)?;
    report::write_run_report(directory, &record, &config::to_toml(config)?)?;
    // Last, because its presence says that the directory is complete.
    let summary = serde_json::to_vec_pretty(&record.summary).map_err(|error| SimulationError::Output(error.into()))?;
    files::write_atomically(&directory.join("metrics_summary.json"), &summary)?;
    Ok(record)
}

/// Writes the personal adapter of every client that keeps something.
fn write_personal(
    directory: &Path,
    server: &Server,
    clients: &Clients,
    peft: &PeftOptions,
) -> Result<(), SimulationError> {
    let directive = server.directive(RoundId(server.rounds().last().map_or(0, |metrics| metrics.round)));
    for &client in clients.train.keys() {
        let kept = server.states().load(client).map_err(crate::record::RecordError::from)?;
        if kept.tensors.is_empty() {
            continue;
        }
        let adapter = Participant::new(client, kept).adapter(directive, server.global())?;
        write_peft(&directory.join("adapters").join(client.to_string()), &adapter, peft)?;
    }
    Ok(())
}

/// Whether a run did all its rounds.
#[must_use]
pub fn completed(summary: &Summary) -> bool {
    summary.status == summary::status(RunStatus::Completed)
}
