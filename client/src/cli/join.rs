//! Taking part in a federation.

use std::sync::Arc;

use fedlora_adapter::Seed;
use fedlora_learner::Watch;
use serde_json::json;

use super::{Answer, CliError, JoinArgs};
use crate::{
    Backoff, Budget, Dialer, DiskStore, GrpcLink, Identity, LinkSettings, Progress, Session, Site, SiteTrainer, Terms,
    config::JoinConfig, link::grpc::Stop, preflight::open_state, renewal, tls::Shown,
};

/// Exit code of a client that was told twice to stop.
const IMPATIENT: i32 = 130;

pub(super) fn join(args: &JoinArgs) -> Result<Answer, CliError> {
    let config = JoinConfig::load(&args.config.config, &args.config.set)?;
    let identity = Identity::load(&config.identity)?;
    let state = open_state(&config, &identity)?;
    super::local::threads(config.threads)?;
    let progress = Progress::line();
    progress.say("loading model and data");
    // The model has no random weights, so the seed decides nothing here.
    let device = super::devices::open(&config.device).map_err(CliError::Device)?;
    let site = Site::load(config.site.clone(), Seed(0), &device)?;
    // The number of examples is data too: a site with a budget does not tell it.
    let examples = if config.privacy.is_some() { 1 } else { site.examples()? };
    let (terms, watch) = (Terms::default(), Watch::default());
    let root = state.root().to_owned();
    let backoff = Backoff::new(randomness());
    let shown = Arc::new(Shown::default());
    let dialer = Arc::new(Dialer::new(&config.server, &identity, &shown)?);
    let link = GrpcLink::start(
        LinkSettings {
            dialer: Arc::clone(&dialer),
            base_model: site.digest(),
            examples,
            stay: config.stay,
            backoff: backoff.clone(),
            terms: terms.clone(),
            watch: watch.clone(),
            progress: progress.clone(),
        },
        state,
    )?;
    link.beside(stop_on_signals(link.stopper()));
    if config.server.tls() {
        let reconnect = link.reconnector();
        link.beside(renewal::keep_young(dialer, identity, shown, backoff, reconnect));
    }
    let trainer = SiteTrainer::new(site, terms.clone(), watch, root.clone(), args.accept_changed_data)
        .with_progress(progress.clone())
        .with_micro_batch_size(config.micro_batch_size)
        .with_gradient_checkpointing(config.gradient_checkpointing)
        .with_budget(config.privacy.as_ref().map(|privacy| Budget::new(privacy, &config.state_dir)));
    let mut session = Session::new(link, trainer, DiskStore::new(root, terms));
    let outcome = session.run();
    // Says goodbye before the last word of the program.
    drop(session);
    progress.clear();
    outcome.map_err(Box::new)?;
    Ok(Answer::new("done".to_owned(), json!({ "server": config.server.to_string() })))
}

/// A number that no other client has, so that clients do not come back at one moment.
fn randomness() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The first signal stops in good order, the second one at once.
async fn stop_on_signals(stop: Stop) {
    if wait_for_signal().await {
        stop.stop();
        if wait_for_signal().await {
            std::process::exit(IMPATIENT);
        }
    }
}

/// False where signals cannot be heard: then they end the process, and what is on disk is whole all the same.
#[cfg(unix)]
async fn wait_for_signal() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return false;
    };
    tokio::select! {
        received = terminate.recv() => received.is_some(),
        received = interrupt.recv() => received.is_some(),
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}
