//! A site as a trainer: it reads its rows when it first knows the run's seed and labels.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use fedlora_adapter::{ClientId, Seed};
use fedlora_learner::{Job, LocalOutcome, LocalTrainer, Trainer, Watch};

use super::{Fingerprint, Site, SiteError};
use crate::{
    Terms,
    state::run_folder,
    terms::{Current, RunInfo},
};

/// Trains on a site's own rows.
#[derive(Debug)]
pub struct SiteTrainer {
    site: Site,
    terms: Terms,
    watch: Watch,
    root: PathBuf,
    accept_changed_data: bool,
    prepared: Option<Prepared>,
}

/// Rows read for one run.
#[derive(Debug)]
struct Prepared {
    run: Arc<RunInfo>,
    seed: u64,
    client: ClientId,
    trainer: LocalTrainer,
    fingerprint: Fingerprint,
}

impl SiteTrainer {
    /// A trainer for the run that `terms` tell of. Below `root` lies what it remembers of each run's data;
    /// `accept_changed_data` says that data other than before are meant.
    #[must_use]
    pub fn new(site: Site, terms: Terms, watch: Watch, root: PathBuf, accept_changed_data: bool) -> Self {
        Self { site, terms, watch, root, accept_changed_data, prepared: None }
    }

    fn train_one(&mut self, job: &Job) -> Result<LocalOutcome, SiteError> {
        let Current { run, .. } = self.terms.current().ok_or(SiteError::NoRound)?;
        self.site.model().check(job.start.spec())?;
        let fits = |prepared: &Prepared| {
            prepared.run == run && prepared.seed == job.plan.seed && prepared.client == job.client
        };
        let mut prepared = match self.prepared.take().filter(fits) {
            Some(prepared) => prepared,
            None => self.prepare(run, job)?,
        };
        prepared.fingerprint.check()?;
        let outcome = prepared.trainer.train(std::slice::from_ref(job)).pop();
        self.prepared = Some(prepared);
        Ok(outcome.ok_or(SiteError::NoResult)??)
    }

    fn prepare(&mut self, run: Arc<RunInfo>, job: &Job) -> Result<Prepared, SiteError> {
        let (seed, client) = (job.plan.seed, job.client);
        let share = self.site.share(Seed(seed), client, &run.labels)?;
        let fingerprint = Fingerprint::take(share.files.iter().cloned())?;
        fingerprint.remember(&run_folder(&self.root, &run).join("data.json"), self.accept_changed_data)?;
        // Accepted once: a change while the process lives is a new one.
        self.accept_changed_data = false;
        let shards = Arc::new(BTreeMap::from([(client, share.rows)]));
        let trainer = LocalTrainer::new(Arc::clone(self.site.model()), share.train, shards)?;
        Ok(Prepared { run, seed, client, trainer: trainer.with_watch(self.watch.clone()), fingerprint })
    }
}

impl Trainer for SiteTrainer {
    type Error = SiteError;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, SiteError>> {
        jobs.iter().map(|job| self.train_one(job)).collect()
    }
}
