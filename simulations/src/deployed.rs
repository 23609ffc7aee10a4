//! The same run through the real stack: a coordinator and one client for each participant, over mutual TLS on this
//! machine.
//!
//! Between a client's training and the server step lies all that a deployment has: certificates, sockets, spooled files,
//! checks of every update, the coordinator's event log. Not a byte of the result may differ from the direct link's.

mod error;
mod follow;
mod gate;
mod hub;
mod player;

use std::sync::{Arc, atomic::AtomicBool};

use fedlora_adapter::{AdapterSpec, ClientId, Digest, ModelDescription, RoundId};
use fedlora_coordinator::{
    EngineError, RunStatus,
    config::{CentralPrivacy, ClientSampling, ConfigError},
};

use crate::{
    SimulationError, builtin,
    config::Config,
    experiment::{Clients, Material},
    faults::Faults,
    observer::Observer,
    report::RunRecord,
    runner::{self, Output},
    server::Server,
};

pub use error::DeployedError;

use self::{follow::Follower, gate::Gate, hub::Hub, player::Players};

/// As [`runner::run`], through a coordinator and its clients.
///
/// # Errors
/// See [`SimulationError`]; injected faults and `--resume`, which only a virtual clock and a run's own records can have.
pub fn run(
    config: &Config,
    material: &Material,
    clients: &Clients,
    output: &Output,
    observer: Box<dyn Observer>,
    interrupted: &Arc<AtomicBool>,
) -> Result<RunRecord, SimulationError> {
    refuse(config, output)?;
    let (mut server, done) = runner::server(config, material, clients, output, observer)?;
    server.before_first_round(done).map_err(DeployedError::from)?;
    let status = play(config, material, clients, &mut server, interrupted)?;
    runner::finish(config, &server, status, clients, output, &material.peft)
}

fn refuse(config: &Config, output: &Output) -> Result<(), ConfigError> {
    let is_sampled = |central: &CentralPrivacy| central.client_sampling == ClientSampling::Poisson;
    let reason = if config.run.central_privacy.as_ref().is_some_and(is_sampled) {
        "cannot be combined with central-privacy.client-sampling = \"poisson\": a coordinator's clients come and go"
    } else if config.faults != Faults::default() {
        "cannot be combined with injected faults, which happen in virtual time; leave out faults.*"
    } else if output.resume {
        "cannot be combined with --resume; go on with --link direct, which gives the same bytes"
    } else {
        return Ok(());
    };
    Err(ConfigError::invalid("--link grpc", reason))
}

/// Starts coordinator and clients, follows the run to its end, and stops them whatever the end was.
fn play(
    config: &Config,
    material: &Material,
    clients: &Clients,
    server: &mut Server,
    interrupted: &AtomicBool,
) -> Result<RunStatus, DeployedError> {
    let model = description(config, material, &server.spec())?;
    let ids: Vec<ClientId> = clients.train.keys().copied().collect();
    let (hub, gate) = (Hub::open(&ids)?, Arc::new(Gate::closed()));
    let (players, notes) = Players::start(&hub, material, clients, config, model.digest, server.states(), &gate)?;
    let mut follower = Follower { server, engine: hub.engine(), gate: &gate, notes, players: &players, interrupted };
    let outcome = hub.block_on(async {
        follower.everybody(ids.len()).await?;
        follower.engine.start_run(config.run.clone(), model, "simulation".to_owned()).await?;
        follower.follow(config.run.num_rounds).await
    });
    // Nobody may wait for a round that will not come.
    gate.open(RoundId(u64::MAX));
    let played = players.end(outcome.is_ok());
    let closed = hub.close();
    // What a client says of its failure says more than that the run did not go on.
    played?;
    let status = outcome?;
    closed.map(|()| status)
}

/// What `fedlora-client describe` says of the model. The built-in ones have no files: they are known by their names.
fn description(config: &Config, material: &Material, spec: &AdapterSpec) -> Result<ModelDescription, DeployedError> {
    let path = &config.model.path;
    let digest = if builtin::is_model(path) {
        Digest::of(path.as_os_str().as_encoded_bytes())
    } else {
        config.model.locate()?.digest()?
    };
    let init = config.run.init().map_err(|error| EngineError::Config(Arc::new(error)))?;
    let first_values = material.first_values(spec, init)?;
    Ok(ModelDescription {
        base_model: material.peft.base_model.clone(),
        task_type: material.peft.task_type.clone(),
        digest,
        modules: spec.modules.clone(),
        head: spec.head.clone(),
        labels: material.train.label_names().to_vec(),
        first_values,
    })
}
