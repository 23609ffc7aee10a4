//! Local training of a language or vision model's adapter: what a client does between two messages.

mod batches;
mod cohort;
mod cohorts;
mod flat;
mod loss;
mod memory;
mod optimizer;
mod part;
mod private;
mod private_step;
mod schedule;
mod step;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use fedlora_adapter::{ClientId, Factors, HeadPolicy, ProtectedUnit};
use fedlora_privacy::SampledGaussian;
use rayon::prelude::*;

use self::{
    cohort::{Cohort, Member, Results, Shared},
    memory::PassSize,
    private::{Private, Releases, Units},
};
use crate::{
    Dataset, Job, LearnerError, LocalOutcome, Model, Trainer, Watch, device::is_cpu, evaluate::check_rows, panics,
};

pub(crate) use batches::Batches;
pub(crate) use flat::column;
pub(crate) use loss::cross_entropy;
pub(crate) use optimizer::GroupOptimizer;
pub use private::{Randomness, noise_mode};
pub use schedule::{learning_rate, progress};

/// Trains clients' adapters on their shares of one data set, over one frozen model.
///
/// Cohorts of `cohort_size` clients go through the model in one pass. On the CPU different cohorts run in parallel on the
/// current rayon pool, on a GPU one after the other, and several devices work side by side. Neither the grouping nor the
/// number of threads changes a bit of the results on the CPU.
#[derive(Debug)]
pub struct LocalTrainer {
    /// The first device.
    shared: Shared,
    /// Further devices with copies of the model.
    others: Vec<Shared>,
    shards: Arc<BTreeMap<ClientId, Vec<u32>>>,
    cohort_size: usize,
    randomness: Randomness,
    releases: Releases,
}

impl LocalTrainer {
    /// A trainer in which each client owns the rows that `shards` gives it.
    ///
    /// # Errors
    /// [`LearnerError::RowOutOfRange`] if a client owns a row that the data set lacks.
    pub fn new(
        model: Arc<dyn Model>,
        dataset: Arc<Dataset>,
        shards: Arc<BTreeMap<ClientId, Vec<u32>>>,
    ) -> Result<Self, LearnerError> {
        shards.values().try_for_each(|rows| check_rows(&dataset, rows))?;
        Ok(Self {
            shared: Shared::new(model, dataset),
            others: Vec::new(),
            shards,
            cohort_size: 1,
            randomness: Randomness::default(),
            releases: Releases::default(),
        })
    }

    /// Trains this many clients in one pass; 0 for as many as it takes to fill one, as was measured. More clients share
    /// more work and need more memory.
    #[must_use]
    pub fn with_cohort_size(mut self, clients: usize) -> Self {
        self.cohort_size = clients;
        self
    }

    /// Lets at most this many of a client's examples go through the model in one pass, 0 for all of a step's: a step takes
    /// as many passes as it needs, whose gradients add up to the same. Fewer examples need less memory. A device that is
    /// out of memory has the number halved by itself.
    #[must_use]
    pub fn with_micro_batch_size(mut self, examples: usize) -> Self {
        self.each(|shared| shared.pass_size = PassSize::new(examples));
        self
    }

    /// Lets forward passes keep each layer's input alone, and backward passes compute the layers again
    /// ([`GroupedAdapter::with_gradient_checkpointing`](crate::GroupedAdapter::with_gradient_checkpointing)).
    #[must_use]
    pub fn with_gradient_checkpointing(mut self, wanted: bool) -> Self {
        self.each(|shared| shared.gradient_checkpointing = wanted);
        self
    }

    /// Trains on further devices too, each with a copy of the same model: the first cohort goes to the first device, the
    /// second to the next, and so on. Devices of one kind give the same results however many there are.
    #[must_use]
    pub fn with_copies(mut self, models: impl IntoIterator<Item = Arc<dyn Model>>) -> Self {
        self.others = models.into_iter().map(|model| self.shared.on(model)).collect();
        self
    }

    fn each(&mut self, change: impl Fn(&mut Shared)) {
        std::iter::once(&mut self.shared).chain(&mut self.others).for_each(change);
    }

    /// Takes samples and noise of private training from somewhere else than the operating system.
    #[must_use]
    pub fn with_randomness(mut self, randomness: Randomness) -> Self {
        self.randomness = randomness;
        self
    }

    /// Lets others see how far training is and end it: what is cancelled fails with [`LearnerError::Cancelled`].
    #[must_use]
    pub fn with_watch(mut self, watch: Watch) -> Self {
        self.each(|shared| shared.watch = watch.clone());
        self
    }

    /// The rows of a job's client.
    fn rows(&self, job: &Job) -> &[u32] {
        self.shards.get(&job.client).map_or(&[], Vec::as_slice)
    }

    /// Trains a cohort. What goes wrong in it as a whole is found again, and blamed on one client, by training alone.
    fn train_guarded(&self, shared: &Shared, jobs: &[Job], places: &[usize]) -> Results {
        let failure = match catch_unwind(AssertUnwindSafe(|| self.train_cohort(shared, jobs, places))) {
            Ok(Ok(results)) => return results,
            Ok(Err(error)) => error,
            Err(panic) => LearnerError::Panicked(panics::message(panic.as_ref())),
        };
        match places {
            [place] => vec![(*place, Err(failure))],
            _ => {
                places.iter().flat_map(|place| self.train_guarded(shared, jobs, std::slice::from_ref(place))).collect()
            }
        }
    }

    fn train_cohort(&self, shared: &Shared, jobs: &[Job], places: &[usize]) -> Result<Results, LearnerError> {
        let (mut members, mut results) = (Vec::with_capacity(places.len()), Vec::new());
        for &place in places {
            let (job, rows) = (&jobs[place], self.rows(&jobs[place]));
            match early_result(job, rows) {
                Some(result) => results.push((place, result)),
                None => match self.private(job) {
                    Ok(private) => members.push(Member::new(place, job, rows, private)),
                    Err(error) => results.push((place, Err(error))),
                },
            }
        }
        // All jobs of a cohort have the same plan.
        if let Some(&place) = places.first().filter(|_| !members.is_empty()) {
            results.extend(Cohort::new(shared, &jobs[place].plan, members)?.run()?);
        }
        Ok(results)
    }

    /// What private training of a job will release; none for plain training. To be charged before training begins.
    ///
    /// # Errors
    /// Terms that do not go with the client's number of units, a target that no noise can meet, data without users where
    /// users are protected.
    pub fn release(&self, job: &Job) -> Result<Option<SampledGaussian>, LearnerError> {
        let Some(terms) = job.plan.local.privacy else { return Ok(None) };
        let units = self.units(job.client, terms.unit())?;
        Ok(Some(self.releases.find(&job.plan, terms, units)?))
    }

    /// Number of a client's units of privacy: its examples, or its users.
    ///
    /// # Errors
    /// [`LearnerError::NoUsers`] where users are to be protected in data that name none.
    pub fn units(&self, client: ClientId, unit: ProtectedUnit) -> Result<usize, LearnerError> {
        Ok(self.units_of(client, unit)?.len())
    }

    fn units_of(&self, client: ClientId, unit: ProtectedUnit) -> Result<Units, LearnerError> {
        let rows = self.shards.get(&client).map_or(&[][..], Vec::as_slice);
        Units::of(rows, unit, &self.shared.dataset)
    }

    /// A client's private training, if the plan asks for it.
    fn private(&self, job: &Job) -> Result<Option<Private>, LearnerError> {
        let Some(terms) = job.plan.local.privacy else { return Ok(None) };
        let units = self.units_of(job.client, terms.unit())?;
        let event = self.releases.find(&job.plan, terms, units.len())?;
        let sizes = crate::grouped::trained_sizes(job.plan.directive, job.start.spec());
        Ok(Some(Private::new(&job.plan, terms, event, (job.client, units), &sizes, self.randomness)?))
    }
}

impl Trainer for LocalTrainer {
    type Error = LearnerError;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, LearnerError>> {
        let cohorts = self.cohorts(jobs);
        let devices: Vec<&Shared> = std::iter::once(&self.shared).chain(&self.others).collect();
        let of_device = |(number, shared): (usize, &&Shared)| {
            let own: Vec<_> = cohorts.iter().skip(number).step_by(devices.len()).collect();
            let train = |places: &&Vec<usize>| self.train_guarded(shared, jobs, places);
            // A GPU is busy with one cohort, and has memory for one: its size is what fills it.
            let trained: Vec<_> = if is_cpu(&shared.model.device()) {
                own.par_iter().map(train).collect()
            } else {
                own.iter().map(train).collect()
            };
            trained.into_iter().flatten().collect::<Results>()
        };
        let mut results: Results = devices.par_iter().enumerate().flat_map_iter(of_device).collect();
        results.sort_by_key(|&(place, _)| place);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// The result of a job that needs no training, or cannot have it.
fn early_result(job: &Job, rows: &[u32]) -> Option<Result<LocalOutcome, LearnerError>> {
    if rows.is_empty() {
        return Some(Err(LearnerError::EmptyClient { client: job.client }));
    }
    if job.plan.local.batch_size == 0 {
        return Some(Err(LearnerError::BatchSize));
    }
    let spec = job.start.spec();
    let directive = job.plan.directive.of_kind(spec.kind);
    let head_is_trained = directive.head != HeadPolicy::Frozen && spec.trainable_head().next().is_some();
    if directive.train != Factors::Neither || head_is_trained {
        return None;
    }
    let (adapter, examples) = (job.start.clone(), rows.len() as u64);
    Some(Ok(LocalOutcome { adapter, examples, steps: 0, train_loss: 0.0, last_loss: 0.0, spent: None }))
}
