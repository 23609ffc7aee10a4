//! A site as a trainer: it reads its rows when it first knows the run's seed and labels.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use fedlora_adapter::{ClientId, Seed};
use fedlora_learner::{Job, LocalOutcome, LocalTrainer, Trainer, Watch};

use super::{Fingerprint, Site, SiteError};
use crate::{
    Progress, Terms,
    budget::{Books, Budget, BudgetError},
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
    micro_batch_size: usize,
    gradient_checkpointing: bool,
    budget: Option<Budget>,
    progress: Progress,
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
    books: Option<Books>,
}

impl SiteTrainer {
    /// A trainer for the run that `terms` tell of. Below `root` lies what it remembers of each run's data;
    /// `accept_changed_data` says that data other than before are meant.
    #[must_use]
    pub fn new(site: Site, terms: Terms, watch: Watch, root: PathBuf, accept_changed_data: bool) -> Self {
        let progress = Progress::silent();
        Self {
            site,
            terms,
            watch,
            root,
            accept_changed_data,
            micro_batch_size: 0,
            gradient_checkpointing: false,
            budget: None,
            progress,
            prepared: None,
        }
    }

    /// Lets at most this many examples go through the model in one pass; 0 for all of a step's.
    #[must_use]
    pub fn with_micro_batch_size(mut self, examples: usize) -> Self {
        self.micro_batch_size = examples;
        self
    }

    /// Lets forward passes keep each layer's input alone, and backward passes compute the layers again.
    #[must_use]
    pub fn with_gradient_checkpointing(mut self, wanted: bool) -> Self {
        self.gradient_checkpointing = wanted;
        self
    }

    /// Trains privately within a budget, or not at all. Without one, private training is refused.
    #[must_use]
    pub fn with_budget(mut self, budget: Option<Budget>) -> Self {
        self.budget = budget;
        self
    }

    /// Tells of rows that are left out.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    fn train_one(&mut self, job: &Job) -> Result<LocalOutcome, SiteError> {
        // Before anything is read: what could go wrong with the data is not for those whom the site refuses.
        match (job.plan.local.privacy, &self.budget) {
            (None, Some(_)) => return Err(BudgetError::NotPrivate.into()),
            (Some(_), None) => return Err(BudgetError::NoBudget.into()),
            (Some(terms), Some(budget)) => budget.check(terms)?,
            (None, None) => {}
        }
        let Current { run, .. } = self.terms.current().ok_or(SiteError::NoRound)?;
        self.site.model().check(job.start.spec())?;
        let fits = |prepared: &Prepared| {
            prepared.run == run && prepared.seed == job.plan.seed && prepared.client == job.client
        };
        let mut prepared = match self.prepared.take().filter(fits) {
            Some(prepared) => prepared,
            None => self.prepare(run, job)?,
        };
        let outcome = prepared.train(job);
        self.prepared = Some(prepared);
        outcome
    }

    fn prepare(&mut self, run: Arc<RunInfo>, job: &Job) -> Result<Prepared, SiteError> {
        let (seed, client) = (job.plan.seed, job.client);
        let share = self.site.share(Seed(seed), client, &run.labels)?;
        let fingerprint = Fingerprint::take(share.files.iter().cloned())?;
        fingerprint.remember(&run_folder(&self.root, &run).join("data.json"), self.accept_changed_data)?;
        if let Some(words) = share.left_out_words(self.site.max_length()) {
            self.progress.warn(&words);
        }
        // Accepted once: a change while the process lives is a new one.
        self.accept_changed_data = false;
        let shards = Arc::new(BTreeMap::from([(client, share.rows)]));
        let trainer = LocalTrainer::new(Arc::clone(self.site.model()), share.train, shards)?
            .with_micro_batch_size(self.micro_batch_size)
            .with_gradient_checkpointing(self.gradient_checkpointing);
        let open = |budget: &Budget| -> Result<Books, SiteError> {
            let units = trainer.units(client, budget.unit())?;
            Ok(budget.open(fingerprint.content(), units as u64)?)
        };
        let books = self.budget.as_ref().map(open).transpose()?;
        Ok(Prepared { run, seed, client, trainer: trainer.with_watch(self.watch.clone()), fingerprint, books })
    }
}

impl Prepared {
    /// Trains one job; what is private is charged first, and only what is in the books is handed out.
    fn train(&mut self, job: &Job) -> Result<LocalOutcome, SiteError> {
        self.fingerprint.check()?;
        let charge = match (job.plan.local.privacy.zip(self.trainer.release(job)?), &mut self.books) {
            (None, _) => None,
            (Some(_), None) => return Err(BudgetError::NoBudget.into()),
            (Some((terms, event)), Some(books)) => Some((books.reserve(&job.plan, terms, event)?, books)),
        };
        let outcome = self.trainer.train(std::slice::from_ref(job)).pop().ok_or(SiteError::NoResult)??;
        if let Some((reservation, books)) = charge {
            books.commit(reservation, outcome.steps, outcome.adapter.digest())?;
        }
        Ok(outcome)
    }
}

impl Trainer for SiteTrainer {
    type Error = SiteError;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, SiteError>> {
        jobs.iter().map(|job| self.train_one(job)).collect()
    }
}
